package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.PositionedReadable;
import org.apache.hadoop.fs.Seekable;
import org.junit.jupiter.api.Test;

/** Streams of Hadoop's client that are closed, and fail, at the wrong moment. */
class HadoopReadingTest {
    /** A file of ten bytes. */
    private static final class Stub extends InputStream implements Seekable, PositionedReadable {
        private final boolean fails;
        private int closed;

        Stub(boolean fails) {
            this.fails = fails;
        }

        @Override
        public int read(long position, byte[] into, int offset, int length) throws IOException {
            if (fails || closed > 0) {
                throw new IOException("a stream that fails");
            }
            return position >= 10 ? -1 : Math.min(length, 10 - (int) position);
        }

        @Override
        public void readFully(long position, byte[] into, int offset, int length) {
            throw new UnsupportedOperationException();
        }

        @Override
        public void readFully(long position, byte[] into) {
            throw new UnsupportedOperationException();
        }

        @Override
        public int read() {
            throw new UnsupportedOperationException();
        }

        @Override
        public void seek(long position) {
            throw new UnsupportedOperationException();
        }

        @Override
        public long getPos() {
            return 0;
        }

        @Override
        public boolean seekToNewSource(long position) {
            return false;
        }

        @Override
        public void close() {
            closed++;
        }
    }

    private static long read(HadoopReading reading) throws IOException, InterruptedException {
        return reading.read(0, 100, new byte[4], (at, bytes, length) -> true);
    }

    @Test
    void aStreamThatFailsIsOpenedAnewAndBothAreClosed() throws Exception {
        Stub first = new Stub(true);
        Stub second = new Stub(false);
        HadoopReading reading = new HadoopReading(new FSDataInputStream(first), () -> new FSDataInputStream(second));
        assertEquals(10, read(reading));
        assertEquals(1, first.closed);
        assertEquals(0, second.closed);
        reading.close();
        assertEquals(1, second.closed);
        assertThrows(IOException.class, () -> read(reading));
    }

    @Test
    void whatIsClosedWhileItIsOpenedAnewStaysClosed() {
        Stub first = new Stub(true);
        List<Stub> opened = new ArrayList<>();
        HadoopReading[] reading = new HadoopReading[1];
        reading[0] = new HadoopReading(new FSDataInputStream(first), () -> {
            // The log lets go of the file at this moment.
            reading[0].close();
            opened.add(new Stub(false));
            return new FSDataInputStream(opened.get(0));
        });
        IOException e = assertThrows(IOException.class, () -> read(reading[0]));
        assertEquals("the file is closed", e.getMessage());
        assertEquals(1, opened.get(0).closed, "a stream that nobody would ever close");
        assertTrue(first.closed > 0);
    }

    @Test
    void aFileThatCannotBeClosedIsSaidToBeOpen() throws IOException {
        OutputStream failing = new OutputStream() {
            @Override
            public void write(int b) {
            }

            @Override
            public void close() throws IOException {
                throw new IOException("not enough replicas");
            }
        };
        long file = -7;
        HadoopRoot.WRITING.put(file, new FSDataOutputStream(failing, null));
        assertEquals("not enough replicas", assertThrows(IOException.class, () -> HadoopRoot.close(file)).getMessage());
        assertNull(HadoopRoot.WRITING.get(file));
        HadoopRoot.close(file);
        assertFalse(HadoopRoot.WRITING.containsKey(file));
    }
}
