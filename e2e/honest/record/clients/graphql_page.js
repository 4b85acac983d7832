// Sends queries from a page with the GraphQL clients of browsers, to an API of another origin.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { Client, fetchExchange } from '@urql/core';
import { GraphQLClient } from 'graphql-request';
import { createClient as createSSE } from 'graphql-sse';
import { createClient as createWS } from 'graphql-ws';
import { Environment, Network, RecordSource, Store, fetchQuery } from 'relay-runtime';

const documents = {
  Simple: ['query Simple { a b }'],
  Echo: ['query Echo($x: String) { echo(x: $x) }', { x: 'it\'s "mutation { b }" \u00e9\u{1f6f3}' }],
  Fragments: ['query Fragments { node { ...F mutation subscription } } fragment F on Query { a }'],
  mutation: ['query mutation { mutation: a }'],
};
const sha256 = async (text) => [...new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))].map((b) => b.toString(16).padStart(2, '0')).join('');

function relay(url) {
  const environment = new Environment({
    store: new Store(new RecordSource()),
    network: Network.create(async (params, variables) => (await fetch(`${url}?op=${params.name}`, {
      method: 'POST', credentials: 'include', headers: { Accept: 'application/graphql-response+json; charset=utf-8, application/json; charset=utf-8', 'Content-Type': 'application/json', 'X-Requested-With': 'relay' },
      body: JSON.stringify({ query: params.text, variables }),
    })).json()),
  });
  return ([text, variables = {}], name) => fetchQuery(environment, {
    fragment: { argumentDefinitions: [], kind: 'Fragment', metadata: null, name, selections: [], type: 'Query', abstractKey: null }, kind: 'Request',
    operation: { argumentDefinitions: [], kind: 'Operation', name, selections: [] },
    params: { cacheID: name, id: null, metadata: {}, name, operationKind: 'query', text },
  }, variables).toPromise();
}

const apollo = (link) => ([text, variables]) => new ApolloClient({ link, cache: new InMemoryCache() }).query({ query: gql(text), variables, fetchPolicy: 'no-cache' });
const urql = (options) => ([text, variables]) => new Client({ exchanges: [fetchExchange], ...options }).query(text, variables ?? {}).toPromise();

window.run = async (url, name) => {
  const clients = {
    '@apollo/client': apollo(new HttpLink({ uri: url, credentials: 'include', headers: { authorization: 'Bearer x' } })),
    '@apollo/client named in the URL': apollo(new HttpLink({ uri: (operation) => `${url}?${operation.operationName}` })),
    '@apollo/client GET': apollo(new HttpLink({ uri: url, useGETForQueries: true, headers: { 'apollo-require-preflight': 'true' } })),
    '@apollo/client APQ': apollo(ApolloLink.from([new PersistedQueryLink({ sha256 }), new HttpLink({ uri: url })])),
    '@urql/core': urql({ url, preferGetMethod: false, fetchOptions: () => ({ headers: { 'x-client': 'urql' } }) }),
    '@urql/core GET': urql({ url, preferGetMethod: 'force', fetchOptions: () => ({ headers: { 'x-client': 'urql' } }) }),
    'graphql-request': ([text, variables]) => new GraphQLClient(url, { credentials: 'include' }).request(text, variables),
    'graphql-request GET': ([text, variables]) => new GraphQLClient(url, { method: 'GET', jsonSerializer: JSON }).request(text, variables),
    'relay-runtime': relay(url),
    'graphql-sse': ([text, variables]) => new Promise((done) => createSSE({ url, retryAttempts: 0 }).subscribe({ query: text, variables }, { next() {}, error: done, complete: done })),
    'graphql-ws': ([text, variables]) => new Promise((done) => createWS({ url: url.replace('http', 'ws'), retryAttempts: 0, connectionAckWaitTimeout: 50 }).subscribe({ query: text, variables }, { next() {}, error: done, complete: done })),
  };
  if (!name) return Object.keys(clients);
  for (const [operation, document] of Object.entries(documents)) {
    try { await clients[name](document, operation); } catch { /* the answers do not matter: the request is recorded */ }
  }
};
