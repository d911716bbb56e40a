package org.ferrowal.bench.rows;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicLong;

import org.ferrowal.bench.BenchException;
import org.rocksdb.CompactionOptionsFIFO;
import org.rocksdb.CompactionStyle;
import org.rocksdb.CompressionType;
import org.rocksdb.Options;
import org.rocksdb.RocksDB;
import org.rocksdb.RocksDBException;
import org.rocksdb.WriteOptions;

/**
 * RocksDB as a log: ascending keys, each put synced. Set up as its users do for queues: FIFO compaction of at most 1 GB, so
 * that nothing is ever merged; no compression; recycled log files; pipelined writes.
 */
final class RocksDbLog implements JvmLog {
    private static final long KEPT_BYTES = 1L << 30;
    private static final long MEMTABLE_BYTES = 64L << 20;

    @Override
    public String id() {
        return "rocksdb";
    }

    @Override
    public String title() {
        return "RocksDB, sync";
    }

    @Override
    public boolean durable() {
        return true;
    }

    @Override
    public String words() {
        return "rocksdbjni, a put with WriteOptions.setSync(true): writers that wait at the same time share one fdatasync of "
            + "its log. Ascending keys, FIFO compaction of 1 GB (old files are dropped, nothing is merged), memtables of "
            + "64 MiB, recycled log files, pipelined writes, no compression.";
    }

    @Override
    public Appender open(Path directory, int size) {
        RocksDB.loadLibrary();
        Options options = new Options().setCreateIfMissing(true).setCompactionStyle(CompactionStyle.FIFO)
            .setCompactionOptionsFIFO(new CompactionOptionsFIFO().setMaxTableFilesSize(KEPT_BYTES))
            .setCompressionType(CompressionType.NO_COMPRESSION)
            .setWriteBufferSize(Math.max(MEMTABLE_BYTES, 16L * size)).setMaxWriteBufferNumber(4)
            .setMaxBackgroundJobs(2).setRecycleLogFileNum(4).setEnablePipelinedWrite(true)
            .setLevel0SlowdownWritesTrigger(1 << 20).setLevel0StopWritesTrigger(1 << 20);
        WriteOptions sync = new WriteOptions().setSync(true);
        RocksDB db;
        try {
            db = RocksDB.open(options, directory.toString());
        } catch (RocksDBException e) {
            throw new BenchException("RocksDB could not be opened: " + e.getMessage(), e);
        }
        AtomicLong next = new AtomicLong();
        return new Appender() {
            @Override
            public void write(byte[] record, long time) {
                try {
                    db.put(sync, ByteBuffer.allocate(Long.BYTES).putLong(next.getAndIncrement()).array(), record);
                } catch (RocksDBException e) {
                    throw new BenchException("RocksDB: " + e.getMessage(), e);
                }
            }

            @Override
            public void clean(long threshold) {
                // FIFO compaction drops the oldest files by itself.
            }

            @Override
            public void close() {
                db.close();
                sync.close();
                options.close();
            }
        };
    }
}
