// What the Node servers of the rig share: the schema, the counter, and the line that announces the
// port.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const typeDefs = fs.readFileSync(path.join(__dirname, 'schema.graphql'), 'utf8');

let counter = 0;
const raise = () => ++counter;

async function* raises() {
  yield raise();
}

const text = (name) => () => name;
const Query = {
  a: text('a'), b: text('b'), query: text('query'), mutation: text('mutation'), subscription: text('subscription'),
  node: () => ({}), counter: () => counter, echo: (_, { x }) => x,
};
const Mutation = { a: raise, b: raise, bump: raise, echo: raise, mutation: raise };
const Subscription = Object.fromEntries(
  ['a', 'b', 'bump'].map((f) => [f, { subscribe: raises, resolve: (n) => n }]));

// fromSDL makes an executable schema for a server that has only graphql-js, and no schema builder.
function fromSDL({ buildSchema }) {
  const schema = buildSchema(typeDefs);
  for (const [type, fields] of Object.entries({ Query, Mutation, Subscription })) {
    for (const [name, f] of Object.entries(fields)) {
      const field = schema.getType(type).getFields()[name];
      if (typeof f === 'function') field.resolve = f;
      else Object.assign(field, f);
    }
  }
  return schema;
}

// listen serves the counter itself and passes every other request to handler.
function listen(handler, prepare = () => {}) {
  const server = http.createServer((req, res) => {
    if (req.url === '/__counter') return res.end(String(counter));
    handler(req, res);
  });
  prepare(server);
  server.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`));
}

// A request that makes a server throw must not end the server, and the run with it.
process.on('unhandledRejection', () => {});
process.on('uncaughtException', (e) => { if (e.code === 'EADDRINUSE') throw e; });

module.exports = { typeDefs, resolvers: { Query, Mutation, Subscription }, fromSDL, listen, raise };
