"""Django on waitress with USE_X_FORWARDED_HOST, a method override, and the format suffixes of REST
framework."""

import django
import rig
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path


class MethodOverride:
    """A middleware that many projects copy: it reads header, form and URL, for any method."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        method = request.META.get("HTTP_X_HTTP_METHOD_OVERRIDE") or request.POST.get("_method") or request.GET.get("_method")
        if method:
            request.method = request.META["REQUEST_METHOD"] = method.upper()
        return self.get_response(request)


settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="rig",
    USE_X_FORWARDED_HOST=True,
    LOGGING_CONFIG=None,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", f"{__name__}.MethodOverride"],
)
django.setup()

from rest_framework.urlpatterns import format_suffix_patterns  # noqa: E402: needs the settings


def resources(request, resource, id=None, format=None):
    text = rig.answer(resource, request.method, request.get_host().partition(":")[0])
    return HttpResponse(text or "", status=200 if text else 404)


urlpatterns = format_suffix_patterns([
    re_path(r"^(?P<resource>orders)/?$", resources),
    re_path(r"^(?P<resource>orders)/(?P<id>\w+)/?$", resources),
    re_path(r"^(?P<resource>search|login|tenant|logout|healthz)/?$", resources),
]) + [re_path(r"^__counter$", lambda request: HttpResponse(str(rig.counter)))]

rig.serve_waitress(get_wsgi_application())
