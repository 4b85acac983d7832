import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Iterator;
import java.util.Map;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.entity.StringEntity;

/** Sends the requests of a plan with one of Java's HTTP clients: Http CLIENT PLAN. */
class Http {
    public static void main(String[] args) throws Exception {
        JsonNode plan = new ObjectMapper().readTree(new File(args[1]));
        switch (args[0]) {
            case "jdk" -> jdk(plan, HttpClient.Version.HTTP_2);
            case "jdk1" -> jdk(plan, HttpClient.Version.HTTP_1_1);
            case "okhttp" -> okhttp(plan);
            default -> apache(plan);
        }
    }

    static void jdk(JsonNode plan, HttpClient.Version version) throws Exception {
        for (JsonNode r : plan) {
            // Every request has a client of its own: on a kept connection it would not offer HTTP/2
            // again.
            HttpClient client = HttpClient.newBuilder().version(version).build();
            String body = r.path("body").asText(null);
            HttpRequest.Builder b = HttpRequest.newBuilder(URI.create(r.get("url").asText()))
                .method(r.get("method").asText(), body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
            headers(r, b::header);
            client.send(b.build(), HttpResponse.BodyHandlers.discarding());
        }
        System.out.println("java.net.http of Java " + System.getProperty("java.version") + (version == HttpClient.Version.HTTP_2 ? "" : ", HTTP/1.1"));
    }

    static void okhttp(JsonNode plan) throws Exception {
        OkHttpClient client = new OkHttpClient();
        for (JsonNode r : plan) {
            String body = r.path("body").asText(null);
            if (r.get("method").asText().equals("GET")) body = null; // OkHttp does not send one
            String type = r.get("headers").path("content-type").asText(null);
            Request.Builder b = new Request.Builder().url(r.get("url").asText())
                .method(r.get("method").asText(), body == null ? null : RequestBody.create(body, type == null ? null : MediaType.parse(type)));
            headers(r, (k, v) -> { if (!k.equals("content-type")) b.header(k, v); });
            client.newCall(b.build()).execute().close();
        }
        System.out.println("OkHttp " + okhttp3.OkHttp.VERSION);
    }

    static void apache(JsonNode plan) throws Exception {
        try (CloseableHttpClient client = HttpClients.createDefault()) {
            for (JsonNode r : plan) {
                String body = r.path("body").asText(null);
                HttpUriRequestBase request = new HttpUriRequestBase(r.get("method").asText(), URI.create(r.get("url").asText()));
                headers(r, (k, v) -> { if (!k.equals("content-type")) request.setHeader(k, v); });
                if (body != null) request.setEntity(new StringEntity(body, ContentType.parse(r.get("headers").path("content-type").asText("text/plain"))));
                client.execute(request, response -> null);
            }
        }
        System.out.println("Apache HttpClient " + org.apache.hc.core5.util.VersionInfo.loadVersionInfo("org.apache.hc.client5", Http.class.getClassLoader()).getRelease());
    }

    interface Setter { void set(String name, String value); }

    static void headers(JsonNode r, Setter setter) {
        for (Iterator<Map.Entry<String, JsonNode>> i = r.get("headers").fields(); i.hasNext();) {
            Map.Entry<String, JsonNode> h = i.next();
            setter.set(h.getKey(), h.getValue().asText());
        }
    }
}
