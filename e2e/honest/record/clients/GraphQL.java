import com.netflix.graphql.dgs.client.GraphQLClient;
import com.netflix.graphql.dgs.client.HttpResponse;
import com.netflix.graphql.dgs.client.WebClientGraphQLClient;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.util.List;
import java.util.Map;
import org.springframework.graphql.client.HttpGraphQlClient;
import org.springframework.graphql.client.HttpSyncGraphQlClient;
import org.springframework.web.client.RestClient;
import org.springframework.web.reactive.function.client.WebClient;

/** Sends queries with one of Java's GraphQL clients: GraphQL CLIENT URL. */
class GraphQL {
    record Document(String query, Map<String, Object> variables) {}

    static final List<Document> DOCUMENTS = List.of(
        new Document("query Simple { a b }", Map.of()),
        new Document("query Echo($x: String) { echo(x: $x) }", Map.of("x", "it's \"mutation { b }\" \u00e9")),
        new Document("query Fragments { node { ...F mutation subscription } } fragment F on Query { a }", Map.of()),
        new Document("query mutation { mutation: a }", Map.of()));

    public static void main(String[] args) throws Exception {
        String url = args[1];
        for (Document d : DOCUMENTS) {
            try {
                switch (args[0]) {
                    case "spring" -> HttpGraphQlClient.builder(WebClient.create(url)).header("Authorization", "Bearer x").build().document(d.query()).variables(d.variables()).execute().block();
                    case "spring-sync" -> HttpSyncGraphQlClient.builder(RestClient.create(url)).build().document(d.query()).variables(d.variables()).executeSync();
                    case "dgs" -> GraphQLClient.createCustom(url, (to, headers, body) -> {
                        HttpRequest.Builder b = HttpRequest.newBuilder(URI.create(to)).POST(HttpRequest.BodyPublishers.ofString(body));
                        headers.forEach((k, values) -> values.forEach(v -> b.header(k, v)));
                        try {
                            return new HttpResponse(200, HttpClient.newHttpClient().send(b.build(), java.net.http.HttpResponse.BodyHandlers.ofString()).body());
                        } catch (Exception e) {
                            throw new RuntimeException(e);
                        }
                    }).executeQuery(d.query(), d.variables());
                    default -> new WebClientGraphQLClient(WebClient.create(url)).reactiveExecuteQuery(d.query(), d.variables()).block();
                }
            } catch (Exception e) {
                // The answers do not matter: the requests are recorded.
            }
        }
    }
}
