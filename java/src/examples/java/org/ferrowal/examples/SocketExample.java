package org.ferrowal.examples;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * A socket as the source: {@code make example NAME=socket}. Spark's own {@code socketTextStream} cannot be reliable, since
 * its sender never learns what was kept. So the two sides here speak of it: the sender sends lines, and the receiver
 * answers how many lines of this connection are in the log. After a broken connection the sender begins with the first line
 * that was not.
 */
public final class SocketExample {
    private static final int MESSAGES = 2000;

    private SocketExample() {
    }

    /** Sends lines, and processes them. */
    public static void main(String[] args) throws Exception {
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            Thread sender = new Thread(() -> send(server), "sender");
            sender.setDaemon(true);
            sender.start();
            Example.run("socket", new SocketReceiver(server.getLocalPort()), MESSAGES);
        }
    }

    /** Serves one receiver after the other until all lines were acknowledged. */
    private static void send(ServerSocket server) {
        int acknowledged = 0;
        while (acknowledged < MESSAGES) {
            int first = acknowledged;
            try (Socket socket = server.accept();
                    BufferedReader answers = new BufferedReader(
                        new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
                    Writer lines = new OutputStreamWriter(socket.getOutputStream(), StandardCharsets.UTF_8)) {
                for (int i = first; i < MESSAGES; i++) {
                    lines.write(Example.message(i) + "\n");
                }
                lines.flush();
                for (String answer = answers.readLine(); answer != null; answer = answers.readLine()) {
                    acknowledged = first + Integer.parseInt(answer);
                }
            } catch (IOException e) {
                System.out.println("socket: from line " + acknowledged + " again: " + e.getMessage());
                if (server.isClosed()) {
                    return;
                }
            }
        }
    }

    /** Reads lines; answers how many of them are in the log. */
    private static final class SocketReceiver extends ReliableReceiver {
        private static final long serialVersionUID = 1;

        private static final int MOST = 200;

        private final int port;

        SocketReceiver(int port) {
            this.port = port;
        }

        @Override
        Connection connect() throws IOException {
            Socket socket = new Socket(InetAddress.getLoopbackAddress(), port);
            BufferedReader lines =
                new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
            Writer answers = new OutputStreamWriter(socket.getOutputStream(), StandardCharsets.UTF_8);
            return new Connection() {
                private int stored;
                private int taken;

                @Override
                public List<String> take() throws IOException {
                    List<String> block = new ArrayList<>();
                    // Waits for one; the rest is what has arrived with it.
                    do {
                        String line = lines.readLine();
                        if (line == null) {
                            throw new IOException("the sender is gone");
                        }
                        block.add(line);
                    } while (block.size() < MOST && lines.ready());
                    taken = block.size();
                    return block;
                }

                @Override
                public void acknowledge() throws IOException {
                    stored += taken;
                    answers.write(stored + "\n");
                    answers.flush();
                }

                @Override
                public void close() throws IOException {
                    socket.close();
                }
            };
        }
    }
}
