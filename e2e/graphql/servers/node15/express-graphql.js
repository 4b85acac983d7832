// express-graphql 0.12, archived and still widely deployed: JSON, forms and application/graphql, its own body parser.
'use strict';
const express = require('express');
const graphql = require('graphql');
const { graphqlHTTP } = require('express-graphql');
const { fromSDL, listen } = require('../rig.js');

const app = express();
app.use('/graphql', graphqlHTTP({ schema: fromSDL(graphql), graphiql: true }));
listen(app);
