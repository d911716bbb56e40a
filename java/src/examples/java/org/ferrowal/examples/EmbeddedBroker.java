package org.ferrowal.examples;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;

import org.apache.activemq.artemis.core.config.Configuration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;

/** ActiveMQ Artemis in this process, on a free port of this machine alone. It keeps nothing when it ends. */
final class EmbeddedBroker implements AutoCloseable {
    private final EmbeddedActiveMQ broker = new EmbeddedActiveMQ();
    private final int port;

    /** Starts it with these protocols, such as {@code MQTT}. */
    EmbeddedBroker(String protocols) throws Exception {
        port = freePort();
        Configuration configuration = new ConfigurationImpl().setPersistenceEnabled(false).setSecurityEnabled(false)
            .addAcceptorConfiguration("here", url("tcp") + "?protocols=" + protocols);
        broker.setConfiguration(configuration).start();
    }

    /** Where it is. */
    String url(String scheme) {
        return scheme + "://127.0.0.1:" + port;
    }

    int port() {
        return port;
    }

    @Override
    public void close() {
        try {
            broker.stop();
        } catch (Exception e) {
            throw new IllegalStateException("the broker does not stop", e);
        }
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        }
    }
}
