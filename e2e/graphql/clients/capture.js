// Records what GraphQL clients send: it runs them against a server that answers as theirs would,
// and writes the requests to the JSON file named as argument. capture.sh runs it with the pinned
// clients; the result is committed.
'use strict';
const { execFile } = require('node:child_process');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { promisify } = require('node:util');

const { ApolloClient, ApolloLink, HttpLink, InMemoryCache, disableFragmentWarnings, gql } = require('@apollo/client');
const { Defer20220824Handler } = require('@apollo/client/incremental');
const { BatchHttpLink } = require('@apollo/client/link/batch-http');
const { PersistedQueryLink } = require('@apollo/client/link/persisted-queries');
const { createGraphiQLFetcher } = require('@graphiql/toolkit');
const { Client, fetchExchange } = require('@urql/core');
const { persistedExchange } = require('@urql/exchange-persisted');
const graphql = require('graphql');
const { GraphQLClient, batchRequests } = require('graphql-request');
const relay = require('relay-runtime');

disableFragmentWarnings();
const sha256 = (s) => createHash('sha256').update(s).digest('hex');

// The documents of applications. Some have text in them that looks like a write but is harmless.
const documents = {
  simple: { query: 'query Simple { a b }' },
  anonymous: { query: '{ a node { b } }' },
  variables: { query: 'query Echo($x: String = "none") { echo(x: $x) }', variables: { x: 'it\'s a "test" \\ /path\u00e9 \u{1f6f3}\n' } },
  fragments: {
    query: 'query Page($deep: Boolean!) { ...Top node { ...Top @include(if: $deep) ... on Query { counter } } } fragment Top on Query { a b }',
    variables: { deep: true },
  },
  fragmentFirst: { query: 'fragment Top on Query { a b } query Page { ...Top }' },
  namedMutation: { query: 'query mutation { mutation }' },
  mutationCounts: { query: 'query LastMutations { mutationCount: mutation subscription subscriptionPlan: subscription }' },
  mutationInString: { query: 'query Search { echo(x: "mutation { b }") }' },
  mutationInVariable: { query: 'query Search($x: String) { echo(x: $x) }', variables: { x: 'mutation M { b } """ \\""" #' } },
  mutationInBlockString: { query: 'query Search { echo(x: """\n  about a mutation\n  and a subscription\n""") }' },
  deferred: { query: 'query Slow { a ... @defer(label: "later") { counter } }', apolloOnly: true },
  long: { query: `query Long { ${Array.from({ length: 150 }, (_, i) => `alias${i}: node { a b echo(x: "value ${i}") }`).join(' ')} }`, postOnly: true },
  introspection: { query: graphql.getIntrospectionQuery() },
  introspectionFull: {
    query: graphql.getIntrospectionQuery({ specifiedByUrl: true, directiveIsRepeatable: true, schemaDescription: true, inputValueDeprecation: true, oneOf: true }),
  },
};

// The recorder: a GraphQL server with APQ and batches that keeps each request.
const schema = graphql.buildSchema(fs.readFileSync(path.join(__dirname, '../servers/schema.graphql'), 'utf8') +
  'directive @defer(label: String, if: Boolean) on FRAGMENT_SPREAD | INLINE_FRAGMENT');
const rootValue = { a: 'a', b: 'b', node: () => rootValue, echo: ({ x }) => x, counter: 0, query: 'q', mutation: 'm', subscription: 's' };
const known = new Map();
let current;
const records = [];

async function answer({ query, variables, operationName, extensions }) {
  const hash = extensions?.persistedQuery?.sha256Hash;
  if (hash && query) known.set(hash, query);
  query ||= known.get(hash);
  if (!query) return { errors: [{ message: 'PersistedQueryNotFound', extensions: { code: 'PERSISTED_QUERY_NOT_FOUND' } }] };
  return graphql.graphql({ schema, rootValue, source: query, variableValues: variables, operationName });
}

const recorder = http.createServer(async (req, res) => {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  const headers = [];
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    // Headers of the connection, and not of the request, are set when the request is sent again.
    if (!/^(host|connection|content-length|transfer-encoding)$/i.test(req.rawHeaders[i])) headers.push([req.rawHeaders[i], req.rawHeaders[i + 1]]);
  }
  const url = new URL(req.url, 'http://recorder');
  const parameters = Object.fromEntries(url.searchParams);
  for (const k of ['variables', 'extensions']) if (parameters[k]) parameters[k] = JSON.parse(parameters[k]);
  const payload = body ? JSON.parse(body) : parameters;
  // A hash without its document is for a server that knows it. It is refused unless the operator
  // lists the hash.
  const entries = [].concat(payload);
  const expect = entries.every((e) => e.query) ? 'pass' : 'refuse';
  records.push({ ...current, method: req.method, target: req.url, headers, body, expect });
  const result = Array.isArray(payload) ? await Promise.all(payload.map(answer)) : await answer(payload);
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(result));
});

const apollo = (link) => async ({ query, variables }) => {
  const client = new ApolloClient({ link, cache: new InMemoryCache(), incrementalHandler: new Defer20220824Handler() });
  await client.query({ query: gql(query), variables });
};
const urql = (options) => async ({ query, variables }) => {
  const { url, exchanges = [], ...rest } = options;
  const client = new Client({ url, exchanges: [...exchanges, fetchExchange], ...rest });
  const { error } = await client.query(query, variables ?? {}).toPromise();
  if (error) throw error;
};

// The network layer of Relay's guide, and an operation in the form that relay-compiler prints.
function relayFetch(url, persisted) {
  const network = relay.Network.create(async (params, variables) => {
    const response = await fetch(url, {
      method: 'POST',
      headers: { Accept: 'application/graphql-response+json; charset=utf-8, application/json; charset=utf-8', 'Content-Type': 'application/json' },
      body: JSON.stringify(persisted ? { doc_id: params.id, variables } : { query: params.text, variables }),
    });
    return response.json();
  });
  const environment = new relay.Environment({ network, store: new relay.Store(new relay.RecordSource()) });
  return async ({ query, variables = {} }) => {
    const text = graphql.print(graphql.parse(query)) + '\n';
    const name = graphql.getOperationAST(graphql.parse(query)).name?.value ?? 'AnonymousQuery';
    const selections = [];
    const node = {
      fragment: { argumentDefinitions: [], kind: 'Fragment', metadata: null, name, selections, type: 'Query', abstractKey: null },
      kind: 'Request',
      operation: { argumentDefinitions: [], kind: 'Operation', name, selections },
      params: { cacheID: sha256(text).slice(0, 32), id: persisted ? sha256(text).slice(0, 32) : null, metadata: {}, name, operationKind: 'query', text: persisted ? null : text },
    };
    await relay.fetchQuery(environment, node, variables).toPromise();
  };
}

function graphiql(url) {
  const fetcher = createGraphiQLFetcher({ url, fetch });
  return async ({ query, variables }) => {
    const operationName = graphql.getOperationAST(graphql.parse(query))?.name?.value;
    const result = await fetcher({ query, variables, operationName }, { headers: {} });
    if (result[Symbol.asyncIterator]) for await (const _ of result);
  };
}

// curl must not block the recorder, which runs in this process.
const run = promisify(execFile);
const curlPost = (url) => ({ query, variables }) =>
  run('curl', ['-sS', '-X', 'POST', '-H', 'Content-Type: application/json', '--data', JSON.stringify({ query, variables }), url]);
const curlGet = (url) => ({ query, variables }) =>
  run('curl', ['-sS', '--get', '--data-urlencode', `query=${query}`,
    ...(variables ? ['--data-urlencode', `variables=${JSON.stringify(variables)}`] : []), url]);

async function main() {
  await new Promise((done) => recorder.listen(0, '127.0.0.1', done));
  const uri = `http://127.0.0.1:${recorder.address().port}/graphql`;
  const apq = (options) => ApolloLink.from([new PersistedQueryLink({ sha256, ...options }), new HttpLink({ uri })]);
  const clients = {
    'apollo-client': apollo(new HttpLink({ uri })),
    'apollo-client GET': apollo(new HttpLink({ uri, useGETForQueries: true })),
    'apollo-client APQ': apollo(apq({})),
    'apollo-client APQ GET': apollo(apq({ useGETForHashedQueries: true })),
    'urql': urql({ url: uri, preferGetMethod: false }),
    'urql GET': urql({ url: uri, preferGetMethod: 'force' }),
    'urql default': urql({ url: uri }),
    'urql persisted': urql({ url: uri, preferGetMethod: false, exchanges: [persistedExchange({ preferGetForPersistedQueries: false })] }),
    'graphql-request': ({ query, variables }) => new GraphQLClient(uri).request(query, variables),
    'graphql-request GET': ({ query, variables }) => new GraphQLClient(uri, { method: 'GET' }).request(query, variables),
    'relay': relayFetch(uri, false),
    'relay persisted': relayFetch(uri, true),
    'graphiql': graphiql(uri),
    'curl': curlPost(uri),
    'curl GET': curlGet(uri),
  };
  for (const [client, send] of Object.entries(clients)) {
    for (const [document, request] of Object.entries(documents)) {
      if (request.apolloOnly && !client.startsWith('apollo')) continue;
      if (request.postOnly && client.endsWith('GET')) continue; // longer than a URL that a Node server accepts
      known.clear();
      current = { client, document };
      const before = records.length;
      try {
        await send(request);
      } catch (e) {
        // An answer that a client cannot read does not matter here; a request that was never sent
        // does.
        if (records.length === before) throw e;
      }
    }
  }

  const three = ['simple', 'variables', 'namedMutation'].map((d) => documents[d]);
  current = { client: 'apollo-client batch', document: 'three' };
  const batching = new ApolloClient({ link: new BatchHttpLink({ uri, batchInterval: 20 }), cache: new InMemoryCache() });
  await Promise.all(three.map(({ query, variables }) => batching.query({ query: gql(query), variables })));
  current = { client: 'graphql-request batch', document: 'three' };
  await batchRequests(uri, three.map(({ query, variables }) => ({ document: query, variables })));

  recorder.close();
  recorder.closeAllConnections();
  fs.writeFileSync(process.argv[2], JSON.stringify(records, null, 1).replaceAll(uri, '/graphql') + '\n');
  console.log(`${records.length} requests of ${new Set(records.map((r) => r.client)).size} clients`);
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
