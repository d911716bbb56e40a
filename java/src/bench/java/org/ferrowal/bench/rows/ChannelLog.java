package org.ferrowal.bench.rows;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.zip.CRC32C;

/**
 * A group commit on a FileChannel, as a good engineer writes it in a day: files zeroed ahead and used again in turn, two
 * buffers, a leader that writes and forces one while the others fill the next. Length, crc and number before each record;
 * no recovery, no cleaning beyond the files' turn.
 */
final class ChannelLog implements JvmLog {
    private static final int FILES = 4;
    private static final int FILE_BYTES = 64 << 20;
    private static final int BUFFER_BYTES = 4 << 20;
    private static final int HEADER = 16;
    private static final int ZEROS = 1 << 20;

    @Override
    public String id() {
        return "channel";
    }

    @Override
    public String title() {
        return "FileChannel group commit";
    }

    @Override
    public boolean durable() {
        return true;
    }

    @Override
    public String words() {
        return "What a good engineer writes in a day (ChannelLog.java): four files zeroed ahead and used in turn, two direct "
            + "buffers, crc32c, and a leader that writes and forces for all who wait. No recovery, no reading.";
    }

    @Override
    public Appender open(Path directory, int size) {
        try {
            return new Commit(directory, size);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static final class Commit implements Appender {
        private final ReentrantLock lock = new ReentrantLock();
        private final Condition changed = lock.newCondition();
        private final FileChannel[] files = new FileChannel[FILES];
        private final long fileBytes;
        private ByteBuffer filling;
        private ByteBuffer spare;
        /** The group that fills now, and the newest that is on the device. */
        private long group = 1;
        private long durable;
        private boolean leading;
        private IOException failure;
        private long next;
        private int file;
        private long position;

        Commit(Path directory, int size) throws IOException {
            int buffer = Math.max(BUFFER_BYTES, 4 * (size + HEADER));
            fileBytes = Math.max(FILE_BYTES, 4L * buffer);
            filling = ByteBuffer.allocateDirect(buffer);
            spare = ByteBuffer.allocateDirect(buffer);
            ByteBuffer zeros = ByteBuffer.allocateDirect(ZEROS);
            for (int i = 0; i < FILES; i++) {
                files[i] = FileChannel.open(directory.resolve(i + ".log"), StandardOpenOption.CREATE_NEW,
                    StandardOpenOption.WRITE);
                for (long at = 0; at < fileBytes; at += ZEROS) {
                    writeAll(files[i], zeros.clear(), at);
                }
                files[i].force(true);
            }
        }

        @Override
        public void write(byte[] record, long time) {
            CRC32C crc = new CRC32C();
            crc.update(record);
            lock.lock();
            try {
                while (filling.remaining() < HEADER + record.length) {
                    throwFailure();
                    if (leading) {
                        changed.awaitUninterruptibly();
                    } else {
                        lead();
                    }
                }
                throwFailure();
                filling.putInt(record.length).putInt((int) crc.getValue()).putLong(next++).put(record);
                long mine = group;
                while (durable < mine) {
                    throwFailure();
                    if (leading) {
                        changed.awaitUninterruptibly();
                    } else {
                        lead();
                    }
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            } finally {
                lock.unlock();
            }
        }

        /** Takes what has filled to the device. Called, and returns, with the lock; gives it up meanwhile. */
        private void lead() throws IOException {
            leading = true;
            ByteBuffer bytes = filling.flip();
            filling = spare;
            long number = group++;
            lock.unlock();
            IOException failed = null;
            try {
                if (position + bytes.remaining() > fileBytes) {
                    file = (file + 1) % FILES;
                    position = 0;
                }
                int length = bytes.remaining();
                writeAll(files[file], bytes, position);
                files[file].force(false);
                position += length;
            } catch (IOException e) {
                failed = e;
            }
            lock.lock();
            leading = false;
            spare = bytes.clear();
            if (failed == null) {
                durable = number;
            } else {
                failure = failed;
            }
            changed.signalAll();
        }

        private void throwFailure() throws IOException {
            if (failure != null) {
                throw new IOException("an earlier group could not be written", failure);
            }
        }

        private static void writeAll(FileChannel file, ByteBuffer bytes, long at) throws IOException {
            long offset = at - bytes.position();
            while (bytes.hasRemaining()) {
                file.write(bytes, offset + bytes.position());
            }
        }

        @Override
        public void clean(long threshold) {
            // The files' turn does it: four files are kept.
        }

        @Override
        public void close() {
            try {
                for (FileChannel channel : files) {
                    channel.close();
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}
