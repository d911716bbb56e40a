package org.ferrowal.bench;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.TimeUnit;

import org.HdrHistogram.Histogram;

/**
 * What the device does without a log: the records of all threads in one overwrite and one fdatasync, over and over, by one
 * thread. An ideal group commit, in which nobody waits, nothing is copied and no file grows.
 *
 * <p>The file was really zeroed before (written, not merely allocated) and synced, so a barrier costs the file system no
 * journal. Not for use by several threads.
 */
final class Device implements AutoCloseable {
    private static final int LEAST_SPAN = 64 << 20;
    /**
     * The file is zeroed in pieces of this size. A file zeroed by writes of 4 KiB, or by one of 64 MiB, was seen to be
     * overwritten at half the rate; probably the size decides how large the page cache's folios are.
     */
    private static final int ZEROS = 1 << 20;

    private final FileChannel file;
    private final ByteBuffer group;
    private final int records;
    private final long span;
    private long offset;

    /**
     * Makes the file.
     *
     * @param path the file, which must not exist
     * @param size bytes in a record
     * @param records records in a barrier
     */
    Device(Path path, int size, int records) throws IOException {
        this.records = records;
        long bytes = (long) size * records;
        if (bytes > Integer.MAX_VALUE) {
            throw new BenchException(records + " records of " + size + " bytes are too much for one write");
        }
        group = ByteBuffer.allocateDirect((int) bytes);
        span = Math.max(LEAST_SPAN / bytes, 2) * bytes;
        file = FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        ByteBuffer zeros = ByteBuffer.allocateDirect(ZEROS);
        for (long at = 0; at < span; at += ZEROS) {
            zeros.clear().limit((int) Math.min(ZEROS, span - at));
            write(zeros, at);
        }
        file.force(true);
        Payload.fill(group);
    }

    /** Records a second, for so many seconds; the time of each barrier goes to {@code nanos}. */
    double measure(double seconds, Histogram nanos) throws IOException {
        long began = System.nanoTime();
        long end = began + (long) (seconds * TimeUnit.SECONDS.toNanos(1));
        long groups = 0;
        long now = began;
        while (now < end) {
            write(group.rewind(), offset);
            file.force(false);
            offset = (offset + group.capacity()) % span;
            groups++;
            long after = System.nanoTime();
            nanos.recordValue(after - now);
            now = after;
        }
        return groups * (double) records / ((now - began) / 1e9);
    }

    private void write(ByteBuffer bytes, long at) throws IOException {
        while (bytes.hasRemaining()) {
            file.write(bytes, at + bytes.position());
        }
    }

    @Override
    public void close() throws IOException {
        file.close();
    }

    /** Whether a directory lies in memory: nothing measured there says anything about a device. */
    static boolean isMemory(Path directory) throws IOException {
        String type = Files.getFileStore(directory).type();
        return type.equals("tmpfs") || type.equals("ramfs");
    }
}
