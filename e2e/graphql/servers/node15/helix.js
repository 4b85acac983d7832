// GraphQL Helix with Express, as its guide has it: the body is what express.json made of it, subscriptions by SSE. Beside
// it a server of graphql-ws, the protocol of subscriptions-transport-ws, that names no path: it upgrades whatever asks.
'use strict';
const express = require('express');
const graphql = require('graphql');
const { SubscriptionServer } = require('subscriptions-transport-ws');
const { getGraphQLParameters, processRequest, sendResult } = require('graphql-helix');
const { fromSDL, listen } = require('../rig.js');

const schema = fromSDL(graphql);
const app = express();
app.use(express.json(), express.urlencoded({ extended: true }), express.text({ type: ['text/plain', 'application/graphql'] }));
app.use('/graphql', async (req, res, next) => {
  try {
    const request = { body: req.body, headers: req.headers, method: req.method, query: req.query };
    sendResult(await processRequest({ ...getGraphQLParameters(request), request, schema }), res);
  } catch (e) {
    next(e);
  }
});
app.use((err, req, res, next) => res.status(err.status || 500).end());
listen(app, (server) => SubscriptionServer.create({ schema, execute: graphql.execute, subscribe: graphql.subscribe }, { server }));
