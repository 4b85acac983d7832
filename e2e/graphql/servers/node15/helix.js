// GraphQL Helix with Express, as in its guide: express.json reads the body, and subscriptions go by
// SSE. Beside it is a server of graphql-ws, the protocol of subscriptions-transport-ws. No path is
// set for it, so it upgrades any request that asks.
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
