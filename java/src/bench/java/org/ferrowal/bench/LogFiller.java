package org.ferrowal.bench;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicLong;

import org.ferrowal.Log;
import org.ferrowal.LogOptions;
import org.ferrowal.bench.rows.Payload;

/**
 * The program that {@link ReopenBench} kills: eight threads write to a log without end. It says {@code full} when so many
 * bytes were acknowledged, and goes on.
 */
public final class LogFiller {
    private static final int WRITERS = 8;

    private LogFiller() {
    }

    /**
     * Writes until it is killed.
     *
     * @param args the directory, the role, bytes in a record, bytes to write before it says so
     */
    public static void main(String[] args) {
        Log log = Log.open(LogOptions.in(Path.of(args[0]), LogOptions.Role.valueOf(args[1])));
        int size = Integer.parseInt(args[2]);
        long bytes = Long.parseLong(args[3]);
        AtomicLong written = new AtomicLong();
        for (int i = 0; i < WRITERS; i++) {
            byte[] record = Payload.of(size, i);
            new Thread(() -> {
                while (true) {
                    log.append(ByteBuffer.wrap(record), System.currentTimeMillis());
                    long before = written.getAndAdd(size);
                    if (before < bytes && before + size >= bytes) {
                        System.out.println("full");
                        System.out.flush();
                    }
                }
            }).start();
        }
    }
}
