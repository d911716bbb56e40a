package org.ferrowal;

import java.io.Closeable;
import java.io.FileNotFoundException;
import java.io.IOException;
import org.apache.hadoop.fs.FSDataInputStream;

/** A file that is read, by several threads at once, and opened anew where its stream fails. Closed once, for good. */
final class HadoopReading {
    private final Opener opener;
    private FSDataInputStream in;
    private boolean closed;

    /** Opens the file once more. */
    interface Opener {
        FSDataInputStream open() throws IOException, InterruptedException;
    }

    /** Takes the bytes that were read: whether more are wanted. */
    interface Sink {
        boolean take(long at, byte[] bytes, int length);
    }

    HadoopReading(FSDataInputStream in, Opener opener) {
        this.in = in;
        this.opener = opener;
    }

    /** Reads up to {@code room} bytes at {@code from}, as far as the file goes. How many. */
    long read(long from, long room, byte[] piece, Sink sink) throws IOException, InterruptedException {
        FSDataInputStream at = stream(null);
        long[] done = {0};
        try {
            fill(at, from, room, piece, sink, done);
        } catch (FileNotFoundException e) {
            throw e;
        } catch (IOException e) {
            // Its blocks may be elsewhere by now, which an older stream does not know.
            fill(stream(at), from, room, piece, sink, done);
        }
        return done[0];
    }

    /** The stream; another one than {@code failed}. */
    private FSDataInputStream stream(FSDataInputStream failed) throws IOException, InterruptedException {
        synchronized (this) {
            checkOpen();
            if (in != failed) {
                return in;
            }
        }
        // Without the lock, so that who closes need not wait for it.
        FSDataInputStream again = opener.open();
        Closeable spare = again;
        try {
            synchronized (this) {
                checkOpen();
                if (in == failed) {
                    spare = in;
                    in = again;
                }
                return in;
            }
        } finally {
            HadoopRoot.closeQuietly(spare);
        }
    }

    private void checkOpen() throws IOException {
        if (closed) {
            throw new IOException("the file is closed");
        }
    }

    void close() {
        FSDataInputStream last;
        synchronized (this) {
            closed = true;
            last = in;
        }
        HadoopRoot.closeQuietly(last);
    }

    /** Reads up to {@code room} bytes, as far as the file goes, and from where it had come before. */
    static void fill(FSDataInputStream in, long from, long room, byte[] piece, Sink sink, long[] done)
        throws IOException {
        while (done[0] < room) {
            int length = in.read(from + done[0], piece, 0, (int) Math.min(piece.length, room - done[0]));
            if (length <= 0 || !sink.take(done[0], piece, length)) {
                return;
            }
            done[0] += length;
        }
    }
}
