// Express 4 or 5 (the argument), as its guides and the README of method-override describe it. The
// override is read from each of the three headers, from the query and from the body, for any
// method. Forms, JSON, multipart and text are read in any charset and coding. It trusts the proxy,
// takes format suffixes as optional parameters, and serves WebSockets on every path.
'use strict';
const [, , version] = process.argv;
const express = require(`express${version}`);
const override = require('method-override');
const multer = require('multer');
const { WebSocketServer } = require('ws');
const { raise, read, methods, tenant, listen } = require('./rig.js');

const app = express();
app.set('trust proxy', true);
app.use(
  express.urlencoded({ extended: true }),
  express.json({ type: ['json', '+json'] }),
  multer().none(),
);
for (const where of ['X-HTTP-Method', 'X-HTTP-Method-Override', 'X-Method-Override', '_method']) {
  app.use(override(where, { methods: null }));
}
app.use(override((req) => {
  if (!req.body || typeof req.body !== 'object' || !('_method' in req.body)) return undefined;
  const method = req.body._method;
  delete req.body._method;
  return method;
}, { methods: null }));

const suffix = version === '4' ? '.:format?' : '{.:format}';
const write = (req, res) => res.send(raise());
for (const path of [`/orders${suffix}`, `/orders/:id${suffix}`]) {
  app.route(path).get((req, res) => res.send(read())).post(write).put(write).patch(write).delete(write);
}
app.get('/logout', write);
app.post(['/search', '/login'], (req, res) => res.send(read()));
for (const method of ['put', 'patch', 'delete']) app[method](['/search', '/login'], write);
app.all('/tenant', (req, res) => res.send(methods.includes(req.method) && req.hostname === tenant ? raise() : read()));
app.get('/healthz', (req, res) => res.send(read()));
app.use((err, req, res, next) => res.status(err.status || 500).end());

listen(app, (server) => {
  new WebSocketServer({ server }).on('connection', (ws) => {
    ws.on('message', () => ws.send(raise()));
    ws.on('error', () => {});
  });
});
