// What the Node servers of the rig share: the counter, the answers, and the line that announces the
// port.
'use strict';
const http = require('node:http');

let counter = 0;
const raise = () => String(++counter);
const read = () => 'read';

// methods are those that write.
const methods = ['POST', 'PUT', 'PATCH', 'DELETE'];

// tenant is the host on which /tenant writes.
const tenant = 'orders.test';

// listen serves the counter itself and passes every other request to handler.
function listen(handler, prepare = () => {}) {
  const server = http.createServer((req, res) => {
    if (req.url === '/__counter') return res.end(String(counter));
    handler(req, res);
  });
  prepare(server);
  server.listen(0, '127.0.0.1', () => announce(server.address().port));
}

const announce = (port) => console.log(`listening 127.0.0.1:${port}`);

// A request that makes a server throw must not end the server, and the run with it.
process.on('unhandledRejection', () => {});
process.on('uncaughtException', (e) => { if (e.code === 'EADDRINUSE') throw e; });

module.exports = { raise, read, methods, tenant, listen, announce, count: () => String(counter) };
