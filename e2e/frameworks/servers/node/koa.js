// Koa 3 with koa-override for any method, @koa/bodyparser for bodies of any method, and
// @koa/router. It trusts the proxy.
'use strict';
const Koa = require('koa');
const Router = require('@koa/router');
const { bodyParser } = require('@koa/bodyparser');
const override = require('koa-override').default;
const { raise, read, methods, tenant, listen } = require('./rig.js');

const any = [...methods, 'GET', 'HEAD', 'OPTIONS'];
const router = new Router({ methods: any });
const write = (ctx) => { ctx.body = raise(); };
const reads = (ctx) => { ctx.body = read(); };
for (const path of ['/orders', '/orders/:id']) {
  router.get(path, reads).post(path, write).put(path, write).patch(path, write).delete(path, write);
}
router.get('/logout', write);
for (const path of ['/search', '/login']) router.post(path, reads).put(path, write).patch(path, write).delete(path, write);
router.all('/tenant', (ctx) => (methods.includes(ctx.method) && ctx.hostname === tenant ? write : reads)(ctx));
router.get('/healthz', reads);

const app = new Koa({ proxy: true });
app.silent = true;
app.use(bodyParser({ parsedMethods: any, enableTypes: ['json', 'form', 'text'] }));
app.use(override({ allowedMethods: any }));
app.use(router.routes());
listen(app.callback());
