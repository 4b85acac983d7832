// express-graphql 0.12, archived but still widely deployed. Its own parser reads JSON, forms and
// application/graphql.
'use strict';
const express = require('express');
const graphql = require('graphql');
const { graphqlHTTP } = require('express-graphql');
const { fromSDL, listen } = require('../rig.js');

const app = express();
app.use('/graphql', graphqlHTTP({ schema: fromSDL(graphql), graphiql: true }));
listen(app);
