package org.ferrowal.demo;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Iterator;
import java.util.UUID;

/**
 * Where the application's output goes: a directory with one file per partition of each batch, a line per message
 * ({@code <number> <ok | bad> <milliseconds>}), and an empty file per batch that is complete.
 *
 * <p>A file appears at once and synced, or not at all. A batch that Spark runs again writes new files beside the old ones,
 * so that a message which is processed twice is seen twice.
 */
final class Sink {
    /** Prefix of the files with messages. */
    static final String PART = "part-";
    /** Prefix of the mark of a complete batch; its time in milliseconds follows. */
    static final String BATCH = "batch-";

    private Sink() {
    }

    /** Checks the messages of one partition and writes down what was found. Runs in Spark's tasks. */
    static void write(Path dir, long batchTime, Iterator<byte[]> messages) throws IOException {
        StringBuilder lines = new StringBuilder();
        while (messages.hasNext()) {
            byte[] message = messages.next();
            lines.append(Message.number(message)).append(Message.intact(message) ? " ok " : " bad ")
                .append(System.currentTimeMillis()).append('\n');
        }
        if (lines.length() > 0) {
            publish(dir, PART + batchTime + "-" + UUID.randomUUID(), lines.toString());
        }
    }

    /** Marks a batch as complete. Runs in the driver after the batch's tasks. */
    static void complete(Path dir, long batchTime) throws IOException {
        publish(dir, BATCH + batchTime, "");
    }

    private static void publish(Path dir, String name, String text) throws IOException {
        Path hidden = dir.resolve("." + name);
        try (FileChannel file = FileChannel.open(hidden, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING,
                StandardOpenOption.WRITE)) {
            ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.US_ASCII));
            while (bytes.hasRemaining()) {
                file.write(bytes);
            }
            file.force(true);
        }
        Files.move(hidden, dir.resolve(name), StandardCopyOption.ATOMIC_MOVE);
        try (FileChannel directory = FileChannel.open(dir, StandardOpenOption.READ)) {
            directory.force(true);
        }
    }
}
