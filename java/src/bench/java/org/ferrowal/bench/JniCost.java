package org.ferrowal.bench;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.concurrent.TimeUnit;

import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.Payload;
import org.ferrowal.bench.rows.SparkLog;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/**
 * JMH's benchmarks of a write, from Java through JNI into memory: the log lies on a tmpfs and does not sync
 * ({@code durability=os}). The log's own work and the kernel's copy are in the figure; {@link #bareWrite} is the kernel's
 * copy alone. With a library whose storage is stubbed out, which {@link JniBench} runs too, the kernel has no part in a write;
 * other threads still make and remove files. Public, and with a public state, since JMH writes its own code around it.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
public class JniCost {
    /** The system property that names the directory: on a tmpfs. */
    static final String DIRECTORY = "bench.jni.dir";

    /** The system property that names the row. */
    static final String ROW = "bench.jni.row";

    private static final int SIZE = 1 << 10;
    /** Records between two cleans, and what is kept: the volume is memory. */
    private static final long KEPT = 1 << 16;
    private static final long FILE_BYTES = KEPT * SIZE;

    private Path directory;
    private WriteAheadLog log;
    private FileChannel file;
    private byte[] array;
    private ByteBuffer direct;
    private WriteAheadLogRecordHandle handle;
    private long time;
    private long offset;

    /** Made by JMH. */
    public JniCost() {
    }

    /** Opens a log. */
    @Setup
    public void open() throws IOException {
        directory = Files.createTempDirectory(Path.of(System.getProperty(DIRECTORY)), "jmh-");
        SparkLog row = (SparkLog) Contenders.byId(System.getProperty(ROW));
        log = row.with(Map.of("spark.ferrowal.clean.grace", "0s")).create(Files.createDirectory(directory.resolve("log")));
        array = Payload.of(SIZE, 0);
        direct = ByteBuffer.allocateDirect(SIZE).put(array).flip();
        file = FileChannel.open(directory.resolve("bare"), StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        // The oldest: one that is kept would keep all that follow.
        handle = log.write(ByteBuffer.wrap(array), 0);
    }

    /** Closes and deletes it. */
    @TearDown
    public void close() throws IOException {
        log.close();
        file.close();
        WorkFiles.delete(directory);
    }

    private void clean() {
        if (++time % KEPT == 0) {
            log.clean(time - KEPT, false);
        }
    }

    /** A record on the heap, as Spark's are. The buffer around the array is the caller's allocation: 48 bytes. */
    @Benchmark
    public Object writeHeap() {
        clean();
        return log.write(ByteBuffer.wrap(array), time);
    }

    /** A record in a direct buffer, which is used again and again: what is allocated is the log's alone. */
    @Benchmark
    public Object writeDirect() {
        clean();
        return log.write(direct, time);
    }

    /** A record that was written before, back onto the heap. */
    @Benchmark
    public Object read() {
        return log.read(handle);
    }

    /** The kernel's part of a write: the same bytes, over and over, into a file. */
    @Benchmark
    public Object bareWrite() throws IOException {
        file.write(direct.rewind(), offset);
        offset = (offset + SIZE) % FILE_BYTES;
        return file;
    }
}
