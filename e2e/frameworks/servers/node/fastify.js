// Fastify 5 with the lenient options of its router. It trusts the proxy. The method is overridden
// in rewriteUrl, as in fastify-method-override-wrapper, from the query and from the header.
'use strict';
const fastify = require('fastify');
const { raise, read, methods, tenant, announce, count } = require('./rig.js');

function rewriteUrl(req) {
  const { searchParams } = new URL(req.url, 'http://localhost');
  const named = (req.headers['x-http-method-override'] || searchParams.get('_method') || '').toUpperCase();
  if (methods.includes(named)) req.method = named;
  return req.url;
}

const app = fastify({
  rewriteUrl,
  trustProxy: true,
  routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false, useSemicolonDelimiter: true },
});
app.register(require('@fastify/formbody'));
app.register(require('@fastify/multipart'), { attachFieldsToBody: true });
app.register(async (routes) => {
  for (const url of ['/orders', '/orders/:id']) {
    routes.get(url, read);
    routes.route({ method: methods, url, handler: raise });
  }
  routes.get('/logout', raise);
  for (const url of ['/search', '/login']) {
    routes.post(url, read);
    routes.route({ method: ['PUT', 'PATCH', 'DELETE'], url, handler: raise });
  }
  routes.all('/tenant', (req) => (methods.includes(req.method) && req.hostname === tenant ? raise() : read()));
  routes.get('/healthz', read);
  routes.get('/__counter', count);
});
app.listen({ port: 0, host: '127.0.0.1' }).then(() => announce(app.server.address().port));
