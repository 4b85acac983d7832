// Spring Boot 2.7 on its Tomcat, with the method override of HTML, path suffixes and trailing
// slashes, as applications have them that Boot 1 and 2 generated.
//
// Started as: java -Xmx256m -XX:TieredStopAtLevel=1 -cp "DIR/java/*" servers/java/Spring.java
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import javax.servlet.http.HttpServletRequest;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.context.ServletWebServerApplicationContext;
import org.springframework.context.annotation.Configuration;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RequestMethod;
import org.springframework.web.bind.annotation.RestController;

@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
@RestController
public class Spring {
    static final Set<String> WRITES = Set.of("POST", "PUT", "PATCH", "DELETE");
    static final AtomicInteger counter = new AtomicInteger();

    public static void main(String[] args) {
        var application = new SpringApplication(Spring.class);
        application.setDefaultProperties(Map.ofEntries(
            Map.entry("server.address", "127.0.0.1"),
            Map.entry("server.port", "0"),
            Map.entry("server.forward-headers-strategy", "framework"),
            Map.entry("server.servlet.encoding.force", "false"), // as in Spring without Boot
            // The errors of Spring have the time in them, so no two answers would be alike.
            Map.entry("spring.autoconfigure.exclude", "org.springframework.boot.autoconfigure.web.servlet.error.ErrorMvcAutoConfiguration"),
            Map.entry("logging.level.root", "OFF"),
            Map.entry("spring.main.banner-mode", "off"),
            Map.entry("spring.mvc.hiddenmethod.filter.enabled", "true"),
            Map.entry("spring.mvc.pathmatch.matching-strategy", "ant-path-matcher"),
            Map.entry("spring.mvc.pathmatch.use-suffix-pattern", "true"),
            Map.entry("spring.mvc.contentnegotiation.favor-path-extension", "true")));
        var context = (ServletWebServerApplicationContext) application.run(args);
        System.out.println("listening 127.0.0.1:" + context.getWebServer().getPort());
    }

    @RequestMapping(path = "/__counter", method = RequestMethod.GET, produces = "text/plain")
    String counter() {
        return counter.toString();
    }

    @RequestMapping(path = {"/orders", "/orders/{id}"}, method = RequestMethod.GET)
    String read() {
        return "read";
    }

    @RequestMapping(path = {"/orders", "/orders/{id}"}, method = {RequestMethod.POST, RequestMethod.PUT, RequestMethod.PATCH, RequestMethod.DELETE})
    String write() {
        return String.valueOf(counter.incrementAndGet());
    }

    @RequestMapping("/healthz")
    String healthz() {
        return "read";
    }

    @RequestMapping("/tenant")
    String tenant(HttpServletRequest request) {
        return request.getServerName().equals("orders.test") && WRITES.contains(request.getMethod()) ? write() : "read";
    }

    @RequestMapping(path = "/logout", method = RequestMethod.GET)
    String logout() {
        return write();
    }

    @RequestMapping(path = {"/search", "/login"}, method = {RequestMethod.GET, RequestMethod.POST})
    String search() {
        return "read";
    }

    @RequestMapping(path = {"/search", "/login"}, method = {RequestMethod.PUT, RequestMethod.PATCH, RequestMethod.DELETE})
    String rewrite() {
        return write();
    }
}
