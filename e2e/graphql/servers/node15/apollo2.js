// Apollo Server 2, which is past its end of life but still deployed. Batching, APQ, GET and uploads
// by graphql-upload are its defaults, and it has no CSRF prevention.
'use strict';
const express = require('express');
const { ApolloServer } = require('apollo-server-express');
const { typeDefs, resolvers, listen } = require('../rig.js');

const server = new ApolloServer({ typeDefs, resolvers, introspection: true, playground: false, subscriptions: '/graphql' });
server.start().then(() => {
  const app = express();
  server.applyMiddleware({ app, path: '/graphql', bodyParserConfig: { type: () => true } });
  app.use((err, req, res, next) => res.status(err.status || 500).end());
  listen(app, (http) => server.installSubscriptionHandlers(http));
});
