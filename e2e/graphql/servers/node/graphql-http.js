// graphql-http, the reference implementation of GraphQL over HTTP.
'use strict';
const graphql = require('graphql');
const { createHandler } = require('graphql-http/lib/use/http');
const { fromSDL, listen } = require('../rig.js');

const handler = createHandler({ schema: fromSDL(graphql) });
listen((req, res) => (req.url.startsWith('/graphql') ? handler(req, res) : res.writeHead(404).end()));
