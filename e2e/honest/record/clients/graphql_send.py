"""Sends queries with one of Python's GraphQL clients: graphql_send.py CLIENT URL."""
import asyncio
import sys
from importlib.metadata import version

DOCUMENTS = [
    ("query Simple { a b }", None),
    ("query Echo($x: String) { echo(x: $x) }", {"x": "it's \"mutation { b }\" \u00e9"}),
    ("query Fragments { node { ...F mutation subscription } } fragment F on Query { a }", None),
    ("query mutation { mutation: a }", None),
]


def with_gql(transport):
    from gql import Client, GraphQLRequest, gql
    client = Client(transport=transport, fetch_schema_from_transport=False)
    for document, variables in DOCUMENTS:
        try:
            client.execute(GraphQLRequest(document, variable_values=variables))
        except Exception:  # the answers do not matter: the requests are recorded
            pass
    try:
        client.execute_batch([GraphQLRequest(d, variable_values=v) for d, v in DOCUMENTS])
    except Exception:
        pass


def requests(url):
    from gql.transport.requests import RequestsHTTPTransport
    with_gql(RequestsHTTPTransport(url=url))
    with_gql(RequestsHTTPTransport(url=url, method="GET"))


def httpx(url):
    from gql.transport.httpx import HTTPXTransport
    with_gql(HTTPXTransport(url=url))


def aiohttp(url):
    from gql.transport.aiohttp import AIOHTTPTransport
    with_gql(AIOHTTPTransport(url=url))


def sgqlc(url):
    from sgqlc.endpoint.http import HTTPEndpoint
    from sgqlc.endpoint.requests import RequestsEndpoint
    for endpoint in (HTTPEndpoint(url, {"Authorization": "bearer x"}), RequestsEndpoint(url, method="POST")):
        for document, variables in DOCUMENTS:
            try:
                endpoint(document, variables)
            except Exception:
                pass


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
    print("sgqlc " + version("sgqlc") if sys.argv[1] == "sgqlc" else f"gql {version('gql')} on {sys.argv[1]} {version(sys.argv[1])}")
