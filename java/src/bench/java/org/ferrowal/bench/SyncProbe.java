package org.ferrowal.bench;

import java.nio.file.Path;

/**
 * The program whose system calls {@link SyncCount} counts: one thread writes so many records to one log, each after the
 * last has returned, and ends without closing it, so that no sync is counted that is only the close's.
 */
public final class SyncProbe {
    private SyncProbe() {
    }

    /**
     * Writes.
     *
     * @param args the row's id, an existing empty directory, the number of records, bytes in each
     */
    public static void main(String[] args) {
        Contender.Appender log = Contenders.byId(args[0]).open(Path.of(args[1]));
        byte[] record = Payload.of(Integer.parseInt(args[3]), 0);
        for (int i = Integer.parseInt(args[2]); i > 0; i--) {
            log.write(record, System.currentTimeMillis());
        }
        System.out.println("written");
        System.out.flush();
        // At once: no shutdown hook of Hadoop's may sync in our place.
        Runtime.getRuntime().halt(0);
    }
}
