// Readers of APIs that are not plain REST: Elasticsearch, OData, JSON:API, gRPC, gRPC-Web and
// Connect, telemetry, resumable uploads, and sockets that begin with polling.
'use strict';
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { promisify } = require('node:util');
const run = promisify(execFile);

const tools = process.env.HONEST_TOOLS;
const group = 'apis';
const version = (name) => `${name} ${JSON.parse(fs.readFileSync(path.join(__dirname, 'node_modules', name, 'package.json'))).version}`;
const readOnly = (verdict, why) => ({ expect: { 'read-only': verdict }, ...(why && { why }) });
const begin = (recorder, client, label) => recorder.begin({ group, client, source: 'recorded: ' + client, label });
const quietly = async (promise) => { try { await promise; } catch { /* the request is recorded */ } };

function elasticLabel(method, target, headers, body) {
  const name = target.split('?')[0];
  if (/ndjson/.test(headers['content-type'])) return readOnly('refuse', 'no rule lets this POST through; one for it would need allow: [overrides], since its body is no JSON document');
  if (method === 'POST' && !/_search$|_count$/.test(name)) return readOnly('refuse', 'a POST to a path that no rule lets through');
  if (/^(PUT|DELETE)$/.test(method)) return readOnly('refuse', 'a write');
}

async function elasticsearch(recorder) {
  const { Client } = require('@elastic/elasticsearch');
  recorder.routes = [(req, res) => { res.setHeader('x-elastic-product', 'Elasticsearch'); res.setHeader('content-type', 'application/vnd.elasticsearch+json;compatible-with=8'); res.end('{"hits":{"hits":[]},"version":{"number":"8.17.0"},"tagline":"You Know, for Search"}'); return true; }];
  begin(recorder, version('@elastic/elasticsearch'), elasticLabel);
  const client = new Client({ node: recorder.url('elastic'), maxRetries: 0 });
  for (const call of [
    client.search({ index: 'products', query: { match: { text: 'run `make` by _method' } }, size: 5 }), client.search({ query: { term: { method: 'DELETE' } } }), client.search({ index: 'products', q: '_method:DELETE AND x:[1 TO 5]' }),
    client.count({ index: 'products', query: { match_all: {} } }), client.get({ index: 'products', id: 'café/1' }), client.exists({ index: 'products', id: 'a b' }), client.mget({ index: 'products', ids: ['1'] }),
    client.msearch({ index: 'products', searches: [{}, { query: { match_all: {} } }] }), client.cat.indices({ format: 'json' }), client.index({ index: 'products', id: '1', document: { a: 1 } }), client.ping(), client.info(),
  ]) await quietly(call);

  const python = await run(tools + '/python/bin/python', ['-c', 'import importlib.metadata as m; print("elasticsearch-py", m.version("elasticsearch")); print("opensearch-py", m.version("opensearch-py"))']);
  const [es, os] = python.stdout.trim().split('\n');
  begin(recorder, es, elasticLabel);
  await run(tools + '/python/bin/python', [path.join(__dirname, 'clients/search.py'), 'elasticsearch', recorder.url('elastic')]);
  begin(recorder, os, elasticLabel);
  await run(tools + '/python/bin/python', [path.join(__dirname, 'clients/search.py'), 'opensearch', recorder.url('elastic')]);

  // GET with a body, as in the documentation of Elasticsearch.
  const curl = 'curl ' + (await run('curl', ['--version'])).stdout.split(' ')[1];
  for (const app of ['elastic', 'shop']) {
    begin(recorder, curl, () => app === 'elastic' ? readOnly('pass') : readOnly('refuse', 'some servers read the body of a GET and some take it for the next request; read_only.get_bodies: allow lets it pass'));
    for (const [target, body] of [['/products/_search', '{"query":{"match_all":{}}}'], ['/products/_search?pretty', '{"size":0,"aggs":{"method":{"terms":{"field":"_method"}}}}'], ['/_sql?format=txt', '{"query":"SELECT * FROM products"}'], ['/products/_mapping', '{}']])
      await run('curl', ['-sS', '-X', 'GET', '-H', 'Content-Type: application/json', '-d', body, recorder.url(app) + target]);
  }
}

async function odata(recorder) {
  const build = require('odata-query').default;
  begin(recorder, version('odata-query') + ' with fetch');
  for (const query of [
    { filter: { Price: { gt: 10 }, Name: { contains: "it's _method" } }, orderBy: ['Name desc'], top: 10, skip: 20, count: true },
    { select: ['Id', 'Name'], expand: { Items: { filter: { Method: 'DELETE' }, top: 1 } } }, { key: { Id: 1, Region: { type: 'raw', value: "'EU/West'" } } },
    { search: 'mutation OR method', format: 'json' }, { func: { Near: { lat: 1, lon: 2 } } }, { apply: { groupby: { properties: ['Method'] } } }, { key: 5, expand: 'Orders($levels=2)' },
  ]) await fetch(recorder.url() + '/odata/Products' + build(query), { headers: { accept: 'application/json;odata.metadata=minimal;IEEE754Compatible=true', 'OData-Version': '4.0', 'OData-MaxVersion': '4.01', Prefer: 'odata.maxpagesize=50' } });
  for (const target of ['/odata/$metadata', '/odata/Products(1)/$value', "/odata/Products('a%2Fb')/Name", '/odata/Products/$count', '/odata/Products(Id=1,Region=%27EU%27)', '/odata/$entity?$id=Products(1)', '/odata/Products?$skiptoken=a%3D%3D', '/odata/Products?$method=x'.replace('$method', '$deltatoken')])
    await fetch(recorder.url() + target, { headers: { accept: 'application/json', 'OData-Version': '4.0' } });
}

async function jsonapi(recorder) {
  const Kitsu = (await import('kitsu')).default;
  begin(recorder, version('kitsu'), (method) => (method === 'GET' ? undefined : readOnly('refuse', 'a write')));
  const api = new Kitsu({ baseURL: recorder.url() + '/api', headers: { 'X-Client-Method': 'none' } });
  for (const call of [
    () => api.get('anime', { params: { filter: { text: 'méthode', paymentMethod: 'card' }, page: { limit: 5, offset: 10 }, include: 'genres.shows', sort: '-createdAt', fields: { anime: 'title,slug' } } }),
    () => api.get('users/1/relationships/method-overrides'), () => api.get('anime/1', { params: { include: ['a', 'b'] } }), () => api.self({ params: { fields: { users: 'name' } } }), () => api.post('posts', { content: '_method' }), () => api.patch('posts', { id: '1', content: 'x' }),
  ]) await quietly(call());
}

function grpcLabel(method, target) {
  if (/grpc\.(health|reflection)/.test(target)) return readOnly('pass');
  if (method === 'POST') return readOnly('refuse', 'safe_rpcs does not list this RPC');
}

// A gRPC server that implements no method. Its callers have sent their requests by the time they
// learn that.
function grpcRoute(req, res) {
  if (!/^application\/grpc/.test(req.headers['content-type'] ?? '')) return false;
  if (req.httpVersion !== '2.0') { res.setHeader('content-type', req.headers['content-type']); res.setHeader('grpc-status', '12'); res.end(); return true; }
  res.stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '12' }, { endStream: true });
  return true;
}

async function grpc(recorder) {
  recorder.routes = [grpcRoute];
  const target = new URL(recorder.url('shop', 2)).host;
  const js = require('@grpc/grpc-js');
  begin(recorder, version('@grpc/grpc-js'), grpcLabel);
  const identity = (b) => b;
  const client = new js.Client(target, js.credentials.createInsecure());
  for (const [name, message] of [['/grpc.health.v1.Health/Check', ''], ['/grpc.health.v1.Health/Check', '\n\x04shop'], ['/shop.v1.Orders/Create', '\n\x01a'], ['/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', ':\x00']])
    await new Promise((done) => client.makeUnaryRequest(name, identity, identity, Buffer.from(message), new js.Metadata(), { deadline: Date.now() + 3000 }, done));
  client.close();

  const python = 'grpcio ' + (await run(tools + '/python/bin/python', ['-c', 'import importlib.metadata as m; print(m.version("grpcio"))'])).stdout.trim();
  begin(recorder, python, grpcLabel);
  await quietly(run(tools + '/python/bin/python', [path.join(__dirname, 'clients/rpc.py'), target]));
  begin(recorder, 'grpc-go', grpcLabel);
  const before = recorder.records.length;
  const { stdout } = await run(tools + '/go', ['grpc', target]);
  for (const r of recorder.records.slice(before)) r.source = 'recorded: ' + (r.client = stdout.trim());
}

async function connect(recorder) {
  recorder.routes = [grpcRoute];
  const { createClient } = require('@connectrpc/connect');
  const { createConnectTransport, createGrpcWebTransport, createGrpcTransport } = require('@connectrpc/connect-node');
  const { service } = health();
  for (const [how, transport] of [
    ['gRPC-Web', createGrpcWebTransport({ baseUrl: recorder.url(), httpVersion: '1.1' })], ['gRPC', createGrpcTransport({ baseUrl: recorder.url('shop', 2), httpVersion: '2' })],
    ['Connect', createConnectTransport({ baseUrl: recorder.url(), httpVersion: '1.1' })], ['Connect GET', createConnectTransport({ baseUrl: recorder.url(), httpVersion: '1.1', useHttpGet: true })],
  ]) {
    begin(recorder, `${version('@connectrpc/connect-node')}, ${how}`, (method, target, headers) => (method === 'POST' && how === 'Connect' ? readOnly('refuse', 'the Connect protocol posts plain JSON or protobuf; safe_rpcs is for gRPC. Its GET passes, and write_through lets its POST pass') : grpcLabel(method, target)));
    await quietly(createClient(service, transport).check({ service: 'caf\u00e9' }, { timeoutMs: 3000 }));
  }
}

// health is the service of
// https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto, declared to have
// no side effects, so that Connect may use GET.
function health() {
  const { createFileRegistry, create } = require('@bufbuild/protobuf');
  const { FileDescriptorSetSchema, FileDescriptorProtoSchema, FieldDescriptorProto_Type, MethodOptions_IdempotencyLevel } = require('@bufbuild/protobuf/wkt');
  const file = create(FileDescriptorProtoSchema, {
    name: 'health.proto', package: 'grpc.health.v1', syntax: 'proto3',
    messageType: [
      { name: 'HealthCheckRequest', field: [{ name: 'service', number: 1, type: FieldDescriptorProto_Type.STRING, label: 1 }] },
      { name: 'HealthCheckResponse', field: [{ name: 'status', number: 1, type: FieldDescriptorProto_Type.INT32, label: 1 }] },
    ],
    service: [{ name: 'Health', method: [{ name: 'Check', inputType: '.grpc.health.v1.HealthCheckRequest', outputType: '.grpc.health.v1.HealthCheckResponse', options: { idempotencyLevel: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS } }] }],
  });
  return { service: createFileRegistry(create(FileDescriptorSetSchema, { file: [file] })).getService('grpc.health.v1.Health') };
}

async function telemetry(recorder) {
  recorder.routes = [];
  const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
  const { BasicTracerProvider, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-base');
  begin(recorder, version('@opentelemetry/exporter-trace-otlp-http'));
  for (const headers of [{}, { authorization: 'Bearer x' }]) {
    const exporter = new OTLPTraceExporter({ url: recorder.url() + '/collect/v1/traces', headers });
    const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
    provider.getTracer('t').startSpan('GET /orders', { attributes: { 'http.request.method': 'GET', _method: 'DELETE' } }).end();
    await quietly(provider.forceFlush());
    await quietly(provider.shutdown());
  }
  const Sentry = require('@sentry/node');
  begin(recorder, version('@sentry/node'));
  const dsn = recorder.url().replace('http://', 'http://key@') + '/inbound/1';
  Sentry.init({ dsn, defaultIntegrations: false });
  Sentry.captureException(new Error('no _method'));
  await Sentry.flush(2000);
  await Sentry.close(500);
}

async function uploads(recorder) {
  const tus = require('tus-js-client');
  
  recorder.routes = [(req, res) => {
    if (!req.url.startsWith('/uploads')) return false;
    res.setHeader('tus-resumable', '1.0.0');
    if (req.method === 'POST') { res.writeHead(201, { location: '/uploads/24e533e' }); res.end(); return true; }
    if (req.method === 'HEAD') { res.setHeader('upload-offset', '0'); res.setHeader('upload-length', '2000'); res.end(); return true; }
    res.writeHead(204, { 'upload-offset': String(+(req.headers['upload-offset'] ?? 0) + +(req.headers['content-length'] ?? 0)) });
    res.end();
    return true;
  }];
  begin(recorder, version('tus-js-client'), () => readOnly('pass'));
  for (const options of [{}, { chunkSize: 1000 }, { overridePatchMethod: true }, { uploadUrl: recorder.url() + '/uploads/24e533e' }]) {
    if (options.overridePatchMethod) begin(recorder, version('tus-js-client') + ', overridePatchMethod', (method, target, headers) => headers['x-http-method-override'] ? readOnly('pass') : readOnly('pass'));
    await new Promise((done) => new tus.Upload(Buffer.alloc(2000, 'x'), { endpoint: recorder.url() + '/uploads', retryDelays: null, metadata: { filename: 'naïve.txt', filetype: 'text/plain' }, onSuccess: done, onError: done, ...options }).start());
    begin(recorder, version('tus-js-client'), () => readOnly('pass'));
  }
}

async function sockets(recorder) {
  const { io } = require('socket.io-client');
  recorder.routes = [async (req, res) => { if (!req.url.startsWith('/socket.io')) return false; if (/sid=/.test(req.url)) await new Promise((f) => setTimeout(f, 150)); res.setHeader('content-type', 'text/plain; charset=UTF-8'); res.end(req.method === 'GET' ? '0{"sid":"x","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}' : 'ok'); return true; }];
  begin(recorder, version('socket.io-client'), (method) => (method === 'POST' ? readOnly('refuse', 'a POST to a path that no rule lets through: polls carry writes') : readOnly('pass')));
  const socket = io(recorder.url(), { transports: ['polling'], reconnection: false });
  await new Promise((f) => setTimeout(f, 300));
  socket.close();
  const { EventSource } = await import('eventsource');
  begin(recorder, version('eventsource'));
  recorder.routes = [(req, res) => { if (!req.url.startsWith('/events')) return false; res.setHeader('content-type', 'text/event-stream'); res.end('id: 1\ndata: x\n\n'); return true; }];
  for (const app of ['shop', 'strict']) {
    begin(recorder, version('eventsource'), () => app === 'strict' ? readOnly('refuse', 'read_only.event_streams: refuse says so') : readOnly('pass'));
    const events = new EventSource(recorder.url(app) + '/events?channel=_method');
    await new Promise((f) => setTimeout(f, 200));
    events.close();
  }
  const WebSocket = require('ws');
  for (const app of ['shop', 'live']) {
    begin(recorder, version('ws'), () => app === 'shop' ? readOnly('refuse', 'what goes through an upgraded connection cannot be judged; upgrades: allow lets it pass') : readOnly('pass'));
    for (const protocol of ['graphql-transport-ws', 'mqtt', undefined]) await new Promise((done) => { const w = new WebSocket(recorder.url(app, 'socket').replace('http', 'ws') + (protocol === 'graphql-transport-ws' ? '/graphql' : '/ws'), protocol); w.on('close', done); w.on('error', done); });
  }
}

module.exports = [elasticsearch, odata, jsonapi, grpc, connect, telemetry, uploads, sockets];
