// node:http alone, routed by new URL(req.url, 'http://' + host), as in many hand-made servers: host
// and path are what the URL parser of the WHATWG finds.
'use strict';
const { raise, read, methods, tenant, listen } = require('./rig.js');

listen((req, res) => {
  const url = new URL(req.url, `http://${req.headers.host}`);
  const path = decodeURIComponent(url.pathname).replace(/\/+$/, '');
  let writes = methods.includes(req.method);
  switch (path) {
    case '/orders': case '/orders/1': break;
    case '/tenant': writes &&= url.hostname === tenant; break;
    case '/search': case '/login': writes &&= req.method !== 'POST'; break;
    case '/logout': writes = req.method === 'GET'; break;
    case '/healthz': writes = false; break;
    default: return res.writeHead(404).end();
  }
  req.resume().on('end', () => res.end(writes ? raise() : read()));
});
