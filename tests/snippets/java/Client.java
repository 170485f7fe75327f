// nats.java with a token callback, as the README shows it; prints what it hears on orders.>.

import io.nats.client.Connection;
import io.nats.client.Nats;
import io.nats.client.Options;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;

public class Client {
    // In production: com.azure.identity's getToken with the scope api://nats-prod/.default.
    static char[] token() {
        try (var answer = URI.create(System.getenv("TOKEN_URL")).toURL().openStream()) {
            return new String(answer.readAllBytes(), StandardCharsets.UTF_8).toCharArray();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        // README: begin
        Options options = Options.builder()
            .server(System.getenv("NATS_URL"))
            .tokenSupplier(Client::token) // asked at every connect and reconnect
            .maxControlLine(48 * 1024)    // the default of 4096 is too short for some tokens
            .maxReconnects(-1)
            .build();
        Connection nc = Nats.connect(options);
        // README: end
        nc.createDispatcher(message ->
            System.out.println(new String(message.getData(), StandardCharsets.UTF_8))).subscribe("orders.>");
        Thread.currentThread().join();
    }
}
