// NanoHTTPD 2.3.1, the small server of many devices and apps. It keeps a connection open after a
// GET and leaves the body of the GET in it, so it takes that body for the next request.
//
// Started as: java -Xmx128m -XX:TieredStopAtLevel=1 -cp "DIR/java/*" servers/java/Nano.java
import fi.iki.elonen.NanoHTTPD;
import java.util.HashMap;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.logging.Level;
import java.util.logging.Logger;

public class Nano extends NanoHTTPD {
    static final Set<Method> WRITES = Set.of(Method.POST, Method.PUT, Method.PATCH, Method.DELETE);
    final AtomicInteger counter = new AtomicInteger();

    Nano() {
        super("127.0.0.1", 0);
    }

    public static void main(String[] args) throws Exception {
        Logger.getLogger(NanoHTTPD.class.getName()).setLevel(Level.OFF);
        var server = new Nano();
        server.start(SOCKET_READ_TIMEOUT, false);
        System.out.println("listening 127.0.0.1:" + server.getListeningPort());
    }

    @Override
    public Response serve(IHTTPSession session) {
        boolean writes = WRITES.contains(session.getMethod());
        if (writes) {
            try {
                session.parseBody(new HashMap<>()); // as its documentation says for POST and PUT
            } catch (Exception e) {
                return newFixedLengthResponse(Response.Status.BAD_REQUEST, MIME_PLAINTEXT, e.toString());
            }
        }
        switch (session.getUri()) {
            case "/__counter":
                return newFixedLengthResponse(counter.toString());
            case "/orders", "/orders/1":
                break;
            case "/search", "/login":
                writes = writes && session.getMethod() != Method.POST;
                break;
            case "/tenant":
                writes = writes && "orders.test".equals(session.getHeaders().get("host"));
                break;
            case "/logout":
                writes = session.getMethod() == Method.GET;
                break;
            case "/healthz":
                writes = false;
                break;
            default:
                return newFixedLengthResponse(Response.Status.NOT_FOUND, MIME_PLAINTEXT, "not found");
        }
        return newFixedLengthResponse(writes ? String.valueOf(counter.incrementAndGet()) : "read");
    }
}
