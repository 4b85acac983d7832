"""Sends one CloudEvent with the Python SDK and requests: cloudevents_send.py URL binary|structured."""
import sys

import requests
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent

event = CloudEvent({"type": "com.example.order.paid", "source": "/orders", "id": "1", "time": "2026-11-25T00:00:00Z"}, {"payment_method": "card"})
headers, body = (to_binary if sys.argv[2] == "binary" else to_structured)(event)
requests.post(sys.argv[1], data=body, headers=headers)
