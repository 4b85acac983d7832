// graphql-java on the HTTP server of the JDK. Jackson decodes as in Spring controllers and
// servlets: bytes go to ObjectMapper, which tells UTF-8 from UTF-16 and UTF-32 by itself. JSON
// arrays are batches; forms, application/graphql, and any operation by GET are accepted.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import graphql.ExecutionInput;
import graphql.GraphQL;
import graphql.schema.DataFetcher;
import graphql.schema.idl.RuntimeWiring;
import graphql.schema.idl.SchemaGenerator;
import graphql.schema.idl.SchemaParser;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;

public class Server {
    static final AtomicInteger counter = new AtomicInteger();
    static final ObjectMapper json = new ObjectMapper();
    static GraphQL graphql;

    public static void main(String[] args) throws Exception {
        DataFetcher<?> raise = env -> counter.incrementAndGet();
        DataFetcher<?> raises = env -> new org.reactivestreams.Publisher<Integer>() {
            public void subscribe(org.reactivestreams.Subscriber<? super Integer> s) {
                counter.incrementAndGet();
                s.onSubscribe(new org.reactivestreams.Subscription() {
                    public void request(long n) { s.onComplete(); }
                    public void cancel() {}
                });
            }
        };
        var wiring = RuntimeWiring.newRuntimeWiring()
            .type("Query", t -> t.defaultDataFetcher(env -> env.getField().getName())
                .dataFetcher("node", env -> Map.of())
                .dataFetcher("counter", env -> counter.get())
                .dataFetcher("echo", env -> env.getArgument("x")))
            .type("Mutation", t -> t.defaultDataFetcher(raise))
            .type("Subscription", t -> t.defaultDataFetcher(raises));
        var sdl = new SchemaParser().parse(Files.readString(Path.of(System.getenv("SCHEMA"))));
        graphql = GraphQL.newGraphQL(new SchemaGenerator().makeExecutableSchema(sdl, wiring.build())).build();

        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/__counter", x -> answer(x, 200, String.valueOf(counter.get()).getBytes()));
        server.createContext("/graphql", x -> {
            try {
                answer(x, 200, json.writeValueAsBytes(serve(x)));
            } catch (Exception | StackOverflowError e) {
                answer(x, 400, String.valueOf(e.getMessage()).getBytes());
            }
        });
        server.start();
        System.out.println("listening 127.0.0.1:" + server.getAddress().getPort());
    }

    static void answer(HttpExchange x, int status, byte[] body) throws IOException {
        x.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
        x.getResponseBody().write(body);
        x.close();
    }

    static Object serve(HttpExchange x) throws Exception {
        Map<String, Object> parameters = form(x.getRequestURI().getRawQuery());
        if (parameters.get("query") != null) return execute(parameters);
        String type = x.getRequestHeaders().getFirst("Content-Type");
        if (type == null) type = "application/json";
        var in = "gzip".equals(x.getRequestHeaders().getFirst("Content-Encoding"))
            ? new GZIPInputStream(x.getRequestBody()) : x.getRequestBody();
        byte[] body = in.readAllBytes();
        Matcher m = Pattern.compile("charset\\s*=\\s*\"?([^\";]+)", Pattern.CASE_INSENSITIVE).matcher(type);
        boolean named = m.find();
        Charset charset = named ? Charset.forName(m.group(1).trim()) : StandardCharsets.UTF_8;
        if (type.startsWith("application/x-www-form-urlencoded")) return execute(form(new String(body, charset)));
        if (type.startsWith("application/graphql")) return execute(Map.of("query", new String(body, charset)));
        // A charset that is named decides, as in the reader of a servlet. Otherwise Jackson looks
        // at the bytes.
        JsonNode tree = named ? json.readTree(new String(body, charset)) : json.readTree(body);
        if (!tree.isArray()) return execute(json.convertValue(tree, Map.class));
        List<Object> results = new ArrayList<>();
        for (JsonNode entry : tree) results.add(execute(json.convertValue(entry, Map.class)));
        return results;
    }

    static Map<String, Object> form(String raw) {
        Map<String, Object> values = new HashMap<>();
        if (raw == null) return values;
        for (String pair : raw.split("&")) {
            int eq = pair.indexOf('=');
            if (eq < 0) continue;
            values.putIfAbsent(URLDecoder.decode(pair.substring(0, eq), StandardCharsets.UTF_8),
                URLDecoder.decode(pair.substring(eq + 1), StandardCharsets.UTF_8));
        }
        return values;
    }

    @SuppressWarnings("unchecked")
    static Object execute(Map<String, Object> request) {
        var input = ExecutionInput.newExecutionInput(String.valueOf(request.get("query")));
        if (request.get("operationName") instanceof String name) input.operationName(name);
        if (request.get("variables") instanceof Map<?, ?> variables) input.variables((Map<String, Object>) variables);
        var result = graphql.execute(input.build());
        // The data of a subscription is a stream, to which the code that answers subscribes.
        if (result.getData() instanceof org.reactivestreams.Publisher<?> events) {
            events.subscribe(new org.reactivestreams.Subscriber<Object>() {
                public void onSubscribe(org.reactivestreams.Subscription s) { s.request(1); }
                public void onNext(Object o) {}
                public void onError(Throwable t) {}
                public void onComplete() {}
            });
            return Map.of();
        }
        return result.toSpecification();
    }
}
