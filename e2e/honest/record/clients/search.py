"""Reads from Elasticsearch or OpenSearch with its client: search.py CLIENT URL."""
import importlib
import sys

module = importlib.import_module({"elasticsearch": "elasticsearch", "opensearch": "opensearchpy"}[sys.argv[1]])
if sys.argv[1] == "elasticsearch":
    client = module.Elasticsearch(sys.argv[2], max_retries=0)
    search = {"query": {"match": {"text": "caf\u00e9 _method"}}}
    calls = [lambda: client.search(index="products", **search), lambda: client.count(index="products", **search)]
else:
    client = module.OpenSearch(sys.argv[2], max_retries=0)
    search = {"body": {"query": {"match": {"text": "caf\u00e9 _method"}}}}
    calls = [lambda: client.search(index="products", **search), lambda: client.count(index="products", **search)]
calls += [lambda: client.get(index="products", id="caf\u00e9 1"), lambda: client.exists(index="products", id="a+b"), lambda: client.cluster.health()]

for call in calls:
    try:
        call()
    except Exception:  # the answers do not matter: the requests are recorded
        pass
