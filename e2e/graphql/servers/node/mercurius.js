// Mercurius 16 on Fastify 5: batching, automatic persisted queries, subscriptions over WebSocket.
'use strict';
const fastify = require('fastify');
const mercurius = require('mercurius');
const { typeDefs, resolvers, listen } = require('../rig.js');

let handle;
const app = fastify({
  routerOptions: { caseSensitive: false, ignoreTrailingSlash: true },
  // Fastify makes a server of its own. With ours, the path of the counter stays out of its router.
  serverFactory: (handler) => { handle = handler; return require('node:http').createServer(handler); },
});
app.register(mercurius, {
  schema: typeDefs, resolvers, allowBatchedQueries: true, subscription: true,
  persistedQueryProvider: mercurius.persistedQueryDefaults.automatic(),
});
app.ready().then(() => listen(handle, (server) => {
  for (const f of app.server.listeners('upgrade')) server.on('upgrade', f);
}));
