package org.ferrowal.bench.rows;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Locale;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

import org.HdrHistogram.Histogram;
import org.ferrowal.bench.BenchException;

/** A log written in Rust, in a process of its own that runs a round when it is told to: {@code benches/peers}. */
record RustLog(String id, String title, String words, boolean durable, boolean stubbed) implements Contender {
    private static final long HANG_SECONDS = 120;

    RustLog(String id, String title, String words, boolean durable) {
        this(id, title, words, durable, false);
    }

    @Override
    public Session open(Path directory, int size, int threads) {
        Path program = stubbed ? Path.of(System.getProperty("bench.stubbed.peers", "target/stubbed-peers/release/peers"))
            : Path.of(System.getProperty("bench.peers", "target/peers/release/peers"));
        if (!Files.isExecutable(program)) {
            throw new BenchException("its program is missing: " + program + "; gradle benchPrepare builds it");
        }
        try {
            Child child = new Child(new ProcessBuilder(program.toString(), id, directory.toString(),
                Integer.toString(size), Integer.toString(threads)).redirectError(ProcessBuilder.Redirect.INHERIT).start());
            child.expect("ready", 0);
            return child;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static final class Child implements Session {
        private final Process process;
        private final BufferedReader answers;

        Child(Process process) {
            this.process = process;
            this.answers = process.inputReader(StandardCharsets.US_ASCII);
        }

        @Override
        public Round round(double ramp, double seconds) {
            tell(String.format(Locale.ROOT, "round %f %f", ramp, seconds));
            String[] answer = expect("round ", ramp + seconds).split(" ");
            Histogram nanos = Histogram.decodeFromByteBuffer(ByteBuffer.wrap(Base64.getDecoder().decode(answer[3])), 0);
            long records = Long.parseLong(answer[1]);
            return new Round(records / seconds, nanos, Double.parseDouble(answer[2]) / Math.max(records, 1));
        }

        @Override
        public void write(int records) {
            tell("write " + records);
            expect("written", 0);
        }

        private void tell(String line) {
            try {
                process.getOutputStream().write((line + "\n").getBytes(StandardCharsets.US_ASCII));
                process.getOutputStream().flush();
            } catch (IOException e) {
                throw new BenchException("the process has ended: what it said is above", e);
            }
        }

        String expect(String start, double seconds) {
            FutureTask<String> reading = new FutureTask<>(answers::readLine);
            Thread reader = new Thread(reading, "bench-child-reader");
            reader.setDaemon(true);
            reader.start();
            try {
                String line = reading.get(HANG_SECONDS + (long) seconds, TimeUnit.SECONDS);
                if (line == null || !line.startsWith(start)) {
                    throw new BenchException(line == null ? "the process has ended: what it said is above" : line);
                }
                return line;
            } catch (ExecutionException e) {
                throw new BenchException("its answer could not be read: " + e.getCause(), e);
            } catch (TimeoutException e) {
                process.destroyForcibly();
                throw new BenchException("it hangs: no answer within " + HANG_SECONDS + " s", e);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new BenchException("interrupted", e);
            }
        }

        @Override
        public void close() {
            // It ends with its input.
            try {
                process.getOutputStream().close();
                if (!process.waitFor(HANG_SECONDS, TimeUnit.SECONDS)) {
                    process.destroyForcibly();
                }
            } catch (IOException e) {
                process.destroyForcibly();
            } catch (InterruptedException e) {
                process.destroyForcibly();
                Thread.currentThread().interrupt();
            }
        }
    }
}
