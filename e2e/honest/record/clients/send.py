"""Sends the requests of a plan with one of Python's HTTP clients: send.py CLIENT PLAN."""
import asyncio
import json
import sys


def main():
    client, plan = sys.argv[1], json.load(open(sys.argv[2]))
    print(CLIENTS[client](plan))


def stdlib(plan):
    import urllib.request
    for r in plan:
        request = urllib.request.Request(r["url"], method=r["method"], headers=r["headers"], data=body(r))
        try:
            urllib.request.urlopen(request).read()
        except urllib.error.HTTPError:
            pass
    return "urllib of Python %d.%d.%d" % sys.version_info[:3]


def requests(plan):
    import requests
    with requests.Session() as s:
        for r in plan:
            s.request(r["method"], r["url"], headers=r["headers"], data=iter([body(r)]) if r.get("chunked") and body(r) else body(r))
    return "requests " + requests.__version__


def niquests(plan):
    import niquests
    with niquests.Session() as s:
        for r in plan:
            s.request(r["method"], r["url"], headers=r["headers"], data=body(r))
    return "niquests " + niquests.__version__


def httpx(plan, **options):
    import httpx
    with httpx.Client(**options) as s:
        for r in plan:
            s.request(r["method"], r["url"], headers=r["headers"], content=iter([body(r)]) if r.get("chunked") and body(r) else body(r))
    return "httpx " + httpx.__version__ + (" HTTP/2" if options else "")


def aiohttp(plan):
    import aiohttp
    import yarl

    async def run():
        async with aiohttp.ClientSession() as s:
            for r in plan:
                async with s.request(r["method"], yarl.URL(r["url"], encoded=True), headers=r["headers"], data=body(r)) as a:
                    await a.read()
    asyncio.run(run())
    return "aiohttp " + aiohttp.__version__


def body(r):
    return r["body"].encode() if r.get("body") is not None else None


CLIENTS = {
    "urllib": stdlib, "requests": requests, "niquests": niquests, "httpx": httpx,
    "httpx2": lambda plan: httpx(plan, http1=False, http2=True), "aiohttp": aiohttp,
}

if __name__ == "__main__":
    main()
