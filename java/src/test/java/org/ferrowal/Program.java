package org.ferrowal;

import java.io.File;
import java.io.IOException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.stream.Stream;

/** What the tests run in JVMs of their own. Prints what it sees, one line each. */
public final class Program {
    private Program() {
    }

    /** The first argument says what to do, the second in which directory. */
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "write":
                write(Path.of(args[1]));
                break;
            case "fail":
                fail(Path.of(args[1]));
                break;
            case "panic":
                panic(options(Path.of(args[1])));
                break;
            case "panicAfterClose":
                panic(options(Path.of(args[1])).writeAfterClose(true));
                break;
            case "backend":
                backend(Path.of(args[1]));
                break;
            case "loaders":
                loaders(args[1]);
                break;
            case "hold":
                hold(Path.of(args[1]));
                break;
            case "summary":
                summary(Path.of(args[1]));
                break;
            case "fill":
                fill(Path.of(args[1]));
                break;
            case "full":
                full(Path.of(args[1]));
                break;
            case "append":
                append(Path.of(args[1]), Integer.parseInt(args[2]));
                break;
            default:
                throw new IllegalArgumentException(args[0]);
        }
    }

    private static LogOptions options(Path dir) {
        return LogOptions.in(dir, LogOptions.Role.RECEIVERS);
    }

    /** Writes, reads, leaves the log open, and ends. */
    private static void write(Path dir) throws IOException {
        Log log = Log.open(options(dir));
        String tmp = System.getProperty("ferrowal.native.tmpdir");
        if (tmp != null) {
            try (Stream<Path> files = Files.walk(Path.of(tmp))) {
                System.out.println("files left: " + files.filter(Files::isRegularFile).count());
            }
        }
        RecordLocation location = log.append(ByteBuffer.wrap(new byte[] {42}), 1);
        System.out.println("read: " + log.read(location).get());
        System.out.println("loaded by: " + Program.class.getClassLoader().getClass().getSimpleName());
        System.out.println("end of main");
    }

    private static void fail(Path dir) {
        for (int i = 0; i < 2; i++) {
            try {
                System.out.println("opened: " + Log.open(options(dir)));
            } catch (NativeLoadException e) {
                System.out.println("failed: " + e.getMessage());
                System.out.println("attempts: " + e.getSuppressed().length);
            }
        }
    }

    private static void panic(LogOptions options) {
        Log log = Log.open(options);
        Log sibling = Log.open(options);
        RecordLocation location = log.append(ByteBuffer.wrap(new byte[] {42}), 1);
        say("panic", () -> TestHooks.panicInLog(log.id, true));
        say("panic", () -> TestHooks.panicInLog(log.id, false));
        say("append", () -> log.append(ByteBuffer.allocate(1), 1));
        say("sibling", () -> sibling.append(ByteBuffer.allocate(1), 1));
        say("read", () -> System.out.println("read: " + log.read(location).get()));
        log.close();
        sibling.close();
        try (Log again = Log.open(options)) {
            say("again", () -> System.out.println("again: " + again.append(ByteBuffer.allocate(1), 1).length()));
        }
    }

    /** A logging backend that is stuck, and then one that throws, while logs are used. */
    private static void backend(Path dir) throws InterruptedException {
        CountDownLatch stuck = new CountDownLatch(1);
        CountDownLatch release = new CountDownLatch(1);
        CountDownLatch thrown = new CountDownLatch(3);
        Handler handler = new Handler() {
            @Override
            public void publish(LogRecord line) {
                if (!line.getMessage().contains("planted") || !Thread.currentThread().getName().equals("ferrowal-log")) {
                    return;
                }
                if (stuck.getCount() > 0) {
                    stuck.countDown();
                    try {
                        release.await();
                    } catch (InterruptedException e) {
                        throw new AssertionError(e);
                    }
                } else {
                    thrown.countDown();
                    throw new AssertionError("planted failure of the backend");
                }
            }

            @Override
            public void flush() {
                // Nothing is kept.
            }

            @Override
            public void close() {
                // Nothing is held.
            }
        };
        Logger.getLogger("org.ferrowal").addHandler(handler);
        Log log = Log.open(options(dir));
        say("panic", () -> TestHooks.panicInLog(log.id, false));
        stuck.await();
        use(dir.resolveSibling("stuck"));
        release.countDown();
        // No call of ours is there to drain: the thread itself lives through each.
        for (long left = thrown.getCount(); left > 0; left--) {
            say("panic", () -> TestHooks.panicInLog(log.id, false));
            while (thrown.getCount() >= left) {
                Thread.onSpinWait();
            }
        }
        use(dir.resolveSibling("throwing"));
        log.close();
        System.out.println("end of main");
    }

    private static void use(Path dir) {
        try (Log log = Log.open(options(dir)); Records records = log.scan()) {
            log.append(ByteBuffer.allocate(10), 1);
            System.out.println("went on: " + records.hasNext());
        }
    }

    private static void say(String what, Runnable call) {
        try {
            call.run();
        } catch (RuntimeException e) {
            System.out.println(what + ": " + e.getClass().getSimpleName() + ": " + e.getMessage());
        }
    }

    /** The same classes twice in one JVM, both on one directory, each with a native library of its own. */
    private static void loaders(String dir) throws MalformedURLException, ReflectiveOperationException {
        String[] path = System.getProperty("java.class.path").split(File.pathSeparator);
        URL[] urls = new URL[path.length];
        for (int i = 0; i < path.length; i++) {
            urls[i] = new File(path[i]).toURI().toURL();
        }
        for (int i = 0; i < 2; i++) {
            // Not closed: the first one's library is still there when the second is loaded.
            @SuppressWarnings("resource")
            ClassLoader loader = new URLClassLoader(urls, ClassLoader.getPlatformClassLoader());
            loader.loadClass(Program.class.getName()).getMethod("main", String[].class)
                .invoke(null, (Object) new String[] {"write", dir});
        }
    }

    /** Owns the driver's log until standard input ends. */
    private static void hold(Path dir) throws IOException {
        try (Log log = Log.open(LogOptions.in(dir, LogOptions.Role.DRIVER))) {
            log.append(ByteBuffer.wrap(new byte[] {1}), 1);
            System.out.println("holding");
            while (System.in.read() >= 0) {
                // Whatever is said, only the end counts.
            }
        }
        System.out.println("let go");
    }

    /** Goes on with the driver's log, and says what it did. */
    private static void summary(Path dir) {
        LogOptions options = LogOptions.in(dir, LogOptions.Role.DRIVER).summary(Duration.ofSeconds(60));
        try (Log log = Log.open(options)) {
            try (Records records = log.scan()) {
                records.forEachRemaining(record -> System.out.println("found: " + record.remaining()));
            }
            log.append(ByteBuffer.wrap(new byte[] {2}), 2);
        }
    }

    /** Fills a volume, cleans, and goes on, three times over; checks all that was acknowledged each time. */
    private static void fill(Path dir) {
        LogOptions options = options(dir).segmentSize(4 << 20).memory(16 << 20).cleanGrace(Duration.ZERO)
            .writeTimeout(Duration.ofSeconds(1));
        int number = 0;
        try (Log log = Log.open(options)) {
            for (int round = 0; round < 3; round++) {
                Map<Integer, RecordLocation> acknowledged = new HashMap<>();
                long start = 0;
                try {
                    while (true) {
                        start = System.nanoTime();
                        acknowledged.put(number, log.append(ByteBuffer.wrap(record(number)), number));
                        number++;
                    }
                } catch (StorageFullException e) {
                    System.out.println("full within " + (System.nanoTime() - start) / 1_000_000 + " ms after "
                        + acknowledged.size() + ": " + e.getMessage());
                }
                acknowledged.forEach((n, location) -> {
                    if (!log.read(location).equals(ByteBuffer.wrap(record(n)))) {
                        System.out.println("altered: " + n);
                    }
                });
                log.clean(number, true);
                System.out.println("goes on: " + log.append(ByteBuffer.allocate(1000), number).length());
            }
        }
        System.out.println("closed");
    }

    /** Fills a volume with other files, and only then begins a log in it. */
    private static void full(Path volume) throws IOException {
        for (LogOptions.Role role : LogOptions.Role.values()) {
            byte[] filling = new byte[1 << 20];
            int fillers = 0;
            try {
                while (fillers < 100) {
                    Files.write(volume.resolve("filler" + fillers++), filling);
                }
            } catch (IOException e) {
                System.out.println("filled: " + e.getMessage());
            }
            try (Log log = Log.open(LogOptions.in(volume.resolve(role.name()), role))) {
                log.check();
                say(role.name(), () -> log.append(ByteBuffer.allocate(1000), 1));
                say(role.name(), () -> log.append(ByteBuffer.allocate(1000), 1));
                while (fillers > 0) {
                    Files.deleteIfExists(volume.resolve("filler" + --fillers));
                }
                System.out.println(role + " goes on: " + log.append(ByteBuffer.allocate(1000), 1).length());
            }
        }
    }

    /** What record {@code number} of {@link #append} holds. */
    static byte[] record(int number) {
        byte[] record = new byte[8 + (int) (number * 7919L % 60_000)];
        new java.util.Random(number).nextBytes(record);
        ByteBuffer.wrap(record).putInt(0, number);
        return record;
    }

    /** Writes for ever, and says before each record that it writes it, and afterwards where it lies. */
    private static void append(Path dir, int from) {
        Log log = Log.open(options(dir));
        for (int i = from; ; i++) {
            System.out.println("write " + i);
            RecordLocation l = log.append(ByteBuffer.wrap(record(i)), i);
            System.out.println("acknowledged " + i + " " + l.logHigh() + " " + l.logLow() + " " + l.writerHigh() + " "
                + l.writerLow() + " " + l.segment() + " " + l.offset() + " " + l.length() + " " + l.crc() + " "
                + l.version());
        }
    }
}
