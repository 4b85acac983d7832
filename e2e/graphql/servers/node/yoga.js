// GraphQL Yoga 5 with batching and APQ. Forms, multipart, application/graphql and SSE are its
// defaults.
'use strict';
const { createSchema, createYoga } = require('graphql-yoga');
const { useAPQ } = require('@graphql-yoga/plugin-apq');
const { typeDefs, resolvers, listen } = require('../rig.js');

listen(createYoga({
  schema: createSchema({ typeDefs, resolvers }), batching: true, plugins: [useAPQ()], logging: false,
}));
