// Apollo Server 5 on Express 5, with settings that deployments use: batching on, CSRF prevention
// off, APQ on (the default), bodies of any type read as JSON or as a form, and uploads.
'use strict';
const express = require('express');
const { ApolloServer } = require('@apollo/server');
const { expressMiddleware } = require('@as-integrations/express5');
const { graphqlUploadExpress } = require('graphql-upload-minimal');
const { typeDefs, resolvers, listen } = require('../rig.js');

const server = new ApolloServer({
  typeDefs, resolvers, allowBatchedHttpRequests: true, csrfPrevention: false, introspection: true,
  cache: 'bounded', logger: { debug() {}, info() {}, warn() {}, error() {} },
});
server.start().then(() => {
  const app = express();
  app.use('/graphql',
    graphqlUploadExpress(),
    express.urlencoded({ extended: true }),
    (req, res, next) => (req.body ? next() : express.json({ type: () => true, strict: false })(req, res, next)),
    expressMiddleware(server));
  app.use((err, req, res, next) => res.status(err.status || 500).end());
  listen(app);
});
