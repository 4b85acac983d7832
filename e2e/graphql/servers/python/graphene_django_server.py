"""graphene-django on waitress, mounted with csrf_exempt as in its tutorial, and a batching view."""

import django
import graphene
import rig
from django.conf import settings

settings.configure(
    SECRET_KEY="the rig has no secrets", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], APPEND_SLASH=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "graphene_django"], MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    GRAPHENE={}, LOGGING_CONFIG=None,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402  (needs the settings above)
from django.urls import path, re_path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from graphene_django.views import GraphQLView  # noqa: E402


def fields(cls, names, type_, resolve, **more):
    body = {f: graphene.Field(type_, name=f, resolver=lambda *_, f=f, **__: resolve(f)) for f in names}
    return type(cls, (graphene.ObjectType,), body | more)


Query = fields(
    "Query", rig.QUERY, graphene.String, lambda f: f,
    node=graphene.Field(lambda: Query, resolver=lambda *_: {}),
    counter=graphene.Field(graphene.Int, resolver=lambda *_: rig.counter),
    echo=graphene.Field(graphene.String, x=graphene.String(), resolver=lambda *_, x=None: x),
)
Mutation = fields(
    "Mutation", rig.MUTATION, graphene.Int, lambda _: rig.raise_counter(),
    echo=graphene.Field(graphene.Int, x=graphene.String(), resolver=lambda *_, x=None: rig.raise_counter()),
)
schema = graphene.Schema(Query, Mutation, auto_camelcase=False)

urlpatterns = [
    path("graphql", csrf_exempt(GraphQLView.as_view(schema=schema, graphiql=False))),
    re_path("^graphql/?$", csrf_exempt(GraphQLView.as_view(schema=schema, graphiql=False))),
    path("graphql/batch", csrf_exempt(GraphQLView.as_view(schema=schema, batch=True))),
]
rig.serve_wsgi(get_wsgi_application())
