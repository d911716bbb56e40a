package org.ferrowal.examples;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;

/**
 * A service of your own as the source: {@code make example NAME=custom}. Here it is a queue over HTTP, of the kind that
 * clouds offer: {@code GET} leases messages, {@code DELETE} says which of them need not come again, and what is not deleted
 * within two seconds is given out anew.
 */
public final class CustomExample {
    private static final int MESSAGES = 2000;

    private CustomExample() {
    }

    /** Serves messages, and processes them. */
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        ExecutorService threads = Executors.newCachedThreadPool();
        Queue queue = new Queue();
        server.createContext("/queue", queue::handle);
        server.setExecutor(threads);
        server.start();
        try {
            Example.run("custom", new HttpReceiver("http://127.0.0.1:" + server.getAddress().getPort() + "/queue"), MESSAGES);
            System.out.println("custom: " + queue.left() + " messages are left in the queue");
        } finally {
            server.stop(0);
            threads.shutdown();
        }
    }

    /** The service: numbers of messages that nobody deleted yet, and until when they are leased. */
    private static final class Queue {
        private static final long LEASE_NANOS = TimeUnit.SECONDS.toNanos(2);
        private static final int MOST = 200;

        private final Map<Integer, Long> leasedUntil = new LinkedHashMap<>();

        Queue() {
            for (int i = 0; i < MESSAGES; i++) {
                leasedUntil.put(i, System.nanoTime());
            }
        }

        synchronized int left() {
            return leasedUntil.size();
        }

        private synchronized String lease() {
            List<String> lines = new ArrayList<>();
            long now = System.nanoTime();
            for (Map.Entry<Integer, Long> message : leasedUntil.entrySet()) {
                if (lines.size() < MOST && message.getValue() - now <= 0) {
                    message.setValue(now + LEASE_NANOS);
                    lines.add(message.getKey() + " " + Example.message(message.getKey()));
                }
            }
            return String.join("\n", lines);
        }

        private synchronized void delete(String numbers) {
            numbers.lines().map(Integer::valueOf).forEach(leasedUntil::remove);
        }

        void handle(HttpExchange exchange) throws IOException {
            try (exchange) {
                String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
                String answer = "";
                if (exchange.getRequestMethod().equals("GET")) {
                    answer = lease();
                } else {
                    delete(body);
                }
                byte[] bytes = answer.getBytes(StandardCharsets.UTF_8);
                exchange.sendResponseHeaders(200, bytes.length == 0 ? -1 : bytes.length);
                exchange.getResponseBody().write(bytes);
            }
        }
    }

    /** Leases messages; deletes what is in the log. */
    private static final class HttpReceiver extends ReliableReceiver {
        private static final long serialVersionUID = 1;

        private static final long PAUSE_MILLIS = 100;

        private final String url;

        HttpReceiver(String url) {
            this.url = url;
        }

        @Override
        Connection connect() {
            HttpClient client = HttpClient.newHttpClient();
            return new Connection() {
                private String numbers;

                @Override
                public List<String> take() throws IOException, InterruptedException {
                    String answer = send(HttpRequest.newBuilder(URI.create(url)).GET().build());
                    List<String> lines = answer.lines().toList();
                    if (lines.isEmpty()) {
                        Thread.sleep(PAUSE_MILLIS);
                    }
                    numbers = String.join("\n", lines.stream().map(line -> line.split(" ", 2)[0]).toList());
                    return lines.stream().map(line -> line.split(" ", 2)[1]).toList();
                }

                @Override
                public void acknowledge() throws IOException, InterruptedException {
                    send(HttpRequest.newBuilder(URI.create(url))
                        .method("DELETE", HttpRequest.BodyPublishers.ofString(numbers)).build());
                }

                private String send(HttpRequest request) throws IOException, InterruptedException {
                    HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
                    if (response.statusCode() != 200) {
                        throw new IOException("the queue answers " + response.statusCode());
                    }
                    return response.body();
                }

                @Override
                public void close() {
                    // The client has nothing to be closed.
                }
            };
        }
    }
}
