package org.ferrowal.bench.rows;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.bytes.SyncMode;
import net.openhft.chronicle.queue.ChronicleQueue;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.rollcycles.TestRollCycles;

/**
 * Chronicle Queue: a memory-mapped file, an appender a thread. With sync, each write is followed by the appender's own
 * {@code sync()} (msync); there is no group commit. A file a second, so that what was cleaned can be deleted.
 */
record ChronicleLog(boolean durable) implements JvmLog {
    @Override
    public String id() {
        return durable ? "chronicle-sync" : "chronicle";
    }

    @Override
    public String title() {
        return durable ? "Chronicle Queue, sync" : "Chronicle Queue";
    }

    @Override
    public String words() {
        return durable ? "writeBytes, then appender.sync() (msync) with SyncMode.SYNC; each thread has its appender. A file a "
            + "second." : "writeBytes: the record is in a memory-mapped file, hence in the page cache; it never syncs. Each "
            + "thread has its appender. A file a second.";
    }

    @Override
    public Appender open(Path directory, int size) {
        ChronicleQueue queue = ChronicleQueue.singleBuilder(directory).rollCycle(TestRollCycles.TEST_SECONDLY)
            .syncMode(durable ? SyncMode.SYNC : SyncMode.NONE).build();
        ThreadLocal<ExcerptAppender> appenders = ThreadLocal.withInitial(queue::createAppender);
        return new Appender() {
            @Override
            public void write(byte[] record, long time) {
                ExcerptAppender appender = appenders.get();
                appender.writeBytes(Bytes.wrapForRead(record));
                if (durable) {
                    appender.sync();
                }
            }

            @Override
            public void clean(long threshold) {
                // By their last change, never the newest two: one may be about to be written to.
                try (Stream<Path> files = Files.list(directory)) {
                    List<Path> cycles = files.filter(file -> file.toString().endsWith(".cq4")).sorted().toList();
                    for (Path file : cycles.subList(0, Math.max(cycles.size() - 2, 0))) {
                        if (Files.getLastModifiedTime(file).toMillis() < threshold) {
                            Files.deleteIfExists(file);
                        }
                    }
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            }

            @Override
            public void close() {
                queue.close();
            }
        };
    }
}
