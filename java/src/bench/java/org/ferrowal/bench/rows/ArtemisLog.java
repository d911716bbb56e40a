package org.ferrowal.bench.rows;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

import org.apache.activemq.artemis.ArtemisConstants;
import org.apache.activemq.artemis.core.io.IOCriticalErrorListener;
import org.apache.activemq.artemis.core.io.SequentialFileFactory;
import org.apache.activemq.artemis.core.io.aio.AIOSequentialFileFactory;
import org.apache.activemq.artemis.core.io.nio.NIOSequentialFileFactory;
import org.apache.activemq.artemis.core.journal.impl.JournalImpl;
import org.apache.activemq.artemis.nativo.jlibaio.LibaioContext;
import org.ferrowal.bench.BenchException;

/**
 * The journal of the ActiveMQ Artemis broker, set up as {@code artemis create} does: files of 10 MiB, a pool of ten, a
 * buffer of 490 KiB whose timeout is what a synced write was measured to take. Records are deleted by id, as a broker
 * deletes messages that were acknowledged; the journal then reuses their files.
 */
record ArtemisLog(boolean libaio) implements JvmLog {
    private static final int FILE_BYTES = 10 << 20;
    private static final int FILES = 10;
    /** What Artemis itself has for each kind. */
    private static final int IN_FLIGHT_NIO = 1;
    private static final int IN_FLIGHT_AIO = 4096;
    private static final byte RECORD_TYPE = 1;
    private static final int PROBES = 200;

    @Override
    public String id() {
        return libaio ? "artemis-aio" : "artemis-nio";
    }

    @Override
    public String title() {
        return libaio ? "Artemis journal, libaio" : "Artemis journal, NIO";
    }

    @Override
    public boolean durable() {
        return true;
    }

    @Override
    public String words() {
        return "ActiveMQ Artemis's journal, appendAddRecord(sync = true), "
            + (libaio ? "by libaio and O_DIRECT (fails where libaio is missing; it does not fall back)" : "by NIO")
            + ". As `artemis create` sets it up: files of 10 MiB, a pool of ten, a buffer of 490 KiB (more where a record "
            + "needs it) whose timeout is the measured time of a synced write. No checksums.";
    }

    @Override
    public Appender open(Path directory, int size) {
        if (libaio && !LibaioContext.isLoaded()) {
            throw new BenchException("libaio could not be loaded: install it (Debian: libaio1 or libaio1t64)");
        }
        try {
            return start(directory, size);
        } catch (RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new BenchException("Artemis's journal could not be opened: " + e.getMessage(), e);
        }
    }

    private Appender start(Path directory, int size) throws Exception {
        int timeout = syncNanos(directory);
        // A record has to fit the buffer, and a file a few records.
        int needed = (size + (64 << 10)) & -4096;
        int buffer = Math.max(libaio ? ArtemisConstants.DEFAULT_JOURNAL_BUFFER_SIZE_AIO
            : ArtemisConstants.DEFAULT_JOURNAL_BUFFER_SIZE_NIO, needed);
        int file = (int) Math.min(Math.max(FILE_BYTES, 8L * needed), 1L << 30) & -4096;
        AtomicReference<String> broken = new AtomicReference<>();
        IOCriticalErrorListener listener = (cause, message, path) -> broken.compareAndSet(null, message + ": " + cause);
        SequentialFileFactory files = libaio
            ? new AIOSequentialFileFactory(directory.toFile(), buffer, timeout, IN_FLIGHT_AIO, false, listener, null)
            : new NIOSequentialFileFactory(directory.toFile(), true, buffer, timeout, IN_FLIGHT_NIO, false, listener, null);
        files.start();
        JournalImpl journal = new JournalImpl(file, FILES, FILES, 10, 30, files, "journal", "amq",
            libaio ? IN_FLIGHT_AIO : IN_FLIGHT_NIO);
        journal.start();
        journal.load(new ArrayList<>(), new ArrayList<>(), (transaction, added, deleted) -> { }, false);
        AtomicLong next = new AtomicLong(1);
        Marks marks = new Marks();
        return new Appender() {
            @Override
            public void write(byte[] record, long time) {
                try {
                    journal.appendAddRecord(next.getAndIncrement(), RECORD_TYPE, record, true);
                } catch (Exception e) {
                    throw new BenchException("Artemis's journal: " + e, e);
                }
                if (broken.get() != null) {
                    throw new BenchException("Artemis's journal: " + broken.get());
                }
            }

            @Override
            public void clean(long threshold) {
                marks.add(System.currentTimeMillis(), next.get());
                long[] old = marks.before(threshold);
                try {
                    for (long id = Math.max(old[0], 1); id < old[1]; id++) {
                        journal.appendDeleteRecord(id, false);
                    }
                } catch (Exception e) {
                    throw new BenchException("Artemis's journal: " + e, e);
                }
            }

            @Override
            public void close() {
                try {
                    journal.stop();
                } catch (Exception e) {
                    throw new BenchException("Artemis's journal could not be closed: " + e, e);
                } finally {
                    files.stop();
                }
            }
        };
    }

    /** What a synced write of 4 KiB takes here: the median, in nanoseconds. */
    private static int syncNanos(Path directory) throws IOException {
        Path path = directory.resolve("timeout.probe");
        long[] nanos = new long[PROBES];
        try (FileChannel file = FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            file.write(ByteBuffer.allocateDirect(PROBES * 4096));
            file.force(true);
            ByteBuffer block = ByteBuffer.allocateDirect(4096);
            for (int i = 0; i < PROBES; i++) {
                long began = System.nanoTime();
                file.write(block.clear(), i * 4096L);
                file.force(false);
                nanos[i] = System.nanoTime() - began;
            }
        } finally {
            Files.deleteIfExists(path);
        }
        Arrays.sort(nanos);
        return (int) nanos[PROBES / 2];
    }
}
