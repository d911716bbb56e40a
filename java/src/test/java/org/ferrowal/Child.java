package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/**
 * A JVM of its own, under -Xcheck:jni. What it prints is kept for the test, and in a file that the build searches for the
 * JVM's warnings.
 */
public final class Child implements AutoCloseable {
    private static final AtomicInteger NUMBER = new AtomicInteger();
    private static final String END = new String("end of output");

    private final Process process;
    private final LinkedBlockingQueue<String> lines = new LinkedBlockingQueue<>();
    private final List<String> all = Collections.synchronizedList(new ArrayList<>());
    private final Thread pump;

    /**
     * Starts one.
     *
     * @param arguments what follows {@code java -Xcheck:jni}
     * @param environment variables besides our own
     */
    public Child(List<String> arguments, Map<String, String> environment) {
        this(List.of(), arguments, environment);
    }

    private Child(List<String> prefix, List<String> arguments, Map<String, String> environment) {
        Path output = Path.of(System.getProperty("ferrowal.test.output"));
        List<String> command = new ArrayList<>(prefix);
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.add("-Xcheck:jni");
        command.add("-XX:ErrorFile=" + output.resolve("hs_err_child_%p.log"));
        command.addAll(arguments);
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.directory(new File(System.getProperty("ferrowal.test.work")));
        builder.environment().putAll(environment);
        try {
            process = builder.start();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        Path file = output.resolve("child-" + NUMBER.incrementAndGet() + ".out");
        pump = new Thread(() -> pump(file), "child-output");
        pump.setDaemon(true);
        pump.start();
    }

    /**
     * Starts a class of the tests with the jar and the test classes, and nothing else, on its class path.
     *
     * @param main the class
     * @param options JVM options and system properties
     * @param arguments the program's arguments
     * @return the child
     */
    public static Child plain(Class<?> main, List<String> options, String... arguments) {
        return plain(List.of(), main, options, arguments);
    }

    /**
     * As the other, started by another command.
     *
     * @param prefix the command, to which {@code java …} is appended
     * @param main the class
     * @param options JVM options and system properties
     * @param arguments the program's arguments
     * @return the child
     */
    public static Child plain(List<String> prefix, Class<?> main, List<String> options, String... arguments) {
        List<String> command = new ArrayList<>();
        // The JDK's own logging says WARNING, which is what the build looks for in the JVM's words.
        command.add("-Djava.util.logging.SimpleFormatter.format=%4$.4s %5$s%n");
        command.addAll(options);
        command.add("-cp");
        command.add(System.getProperty("ferrowal.test.jar") + File.pathSeparator
            + System.getProperty("ferrowal.test.app"));
        command.add(main.getName());
        command.addAll(List.of(arguments));
        return new Child(prefix, command, Map.of());
    }

    /**
     * The prefix of a command that shall see a tmpfs of its own in a directory. Skips the test where that needs more
     * rights than there are.
     *
     * @param dir the directory
     * @param options of the mount
     * @return the prefix
     */
    public static List<String> mounting(Path dir, String options) {
        // Without root, in a user namespace of our own, where the system allows one.
        String namespaces = "root".equals(System.getProperty("user.name")) ? "-m" : "-rm";
        List<String> prefix = List.of("unshare", namespaces, "sh", "-c",
            "mount -t tmpfs -o " + options + " none " + dir + " && exec \"$@\"", "sh");
        List<String> probe = new ArrayList<>(prefix);
        probe.add("true");
        try {
            boolean can = new ProcessBuilder(probe).start().waitFor() == 0;
            // Where nobody reads what was skipped, what cannot be tested is a failure.
            assertTrue(can || System.getenv("CI") == null, "mounting a tmpfs needs root or user namespaces");
            assumeTrue(can, "mounting needs root or user namespaces");
        } catch (IOException | InterruptedException e) {
            throw new AssertionError(e);
        }
        return prefix;
    }

    private void pump(Path file) {
        try (BufferedReader reader =
                 new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
             BufferedWriter writer = Files.newBufferedWriter(file)) {
            for (String line = reader.readLine(); line != null; line = reader.readLine()) {
                writer.write(line);
                writer.newLine();
                all.add(line);
                lines.add(line);
            }
        } catch (IOException e) {
            all.add("cannot read the child's output: " + e);
        } finally {
            lines.add(END);
        }
    }

    /** Waits for a line, and returns it. */
    public String await(Predicate<String> wanted, Duration bound) {
        long until = System.nanoTime() + bound.toNanos();
        try {
            while (true) {
                String line = lines.poll(until - System.nanoTime(), TimeUnit.NANOSECONDS);
                if (line == null) {
                    throw new AssertionError("no such line within " + bound + " in:\n" + output());
                }
                if (line == END) {
                    throw new AssertionError("the child ended without such a line:\n" + output());
                }
                if (wanted.test(line)) {
                    return line;
                }
            }
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    /** Waits for the end, and returns the exit code. */
    public int exit(Duration bound) {
        try {
            if (!process.waitFor(bound.toMillis(), TimeUnit.MILLISECONDS)) {
                throw new AssertionError("the child runs longer than " + bound + ":\n" + output());
            }
            pump.join(bound.toMillis());
            return process.exitValue();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    /** kill -9 of it and all that it has started; waits until they are gone. */
    public void kill() {
        List<ProcessHandle> all = process.descendants().collect(Collectors.toList());
        // This one first, which could otherwise start another in the place of one that goes.
        all.add(0, process.toHandle());
        // By its handle: Process.destroyForcibly also closes the pipe, and what is still in it would be lost.
        all.forEach(ProcessHandle::destroyForcibly);
        exit(Duration.ofSeconds(30));
        awaitEnd(all, Duration.ofSeconds(30));
    }

    /** kill -9 of this process and none that it has started; waits until it is gone. */
    public void killAlone() {
        process.toHandle().destroyForcibly();
        exit(Duration.ofSeconds(30));
    }

    /** Waits until processes, of ours or not, have ended and closed their files. */
    public static void awaitEnd(List<ProcessHandle> processes, Duration bound) {
        long until = System.nanoTime() + bound.toNanos();
        for (ProcessHandle process : processes) {
            // Nobody is told of the end of what is not one's own child: even ProcessHandle.onExit only looks, more seldom.
            while (runs(process)) {
                if (System.nanoTime() > until) {
                    throw new AssertionError("running after " + bound + ": " + process.info());
                }
                LockSupport.parkNanos(5_000_000);
            }
        }
    }

    /** Whether a process has not ended: one that nobody has asked for its exit code yet (Z) has. */
    private static boolean runs(ProcessHandle process) {
        try {
            String stat = Files.readString(Path.of("/proc", Long.toString(process.pid()), "stat"));
            return process.isAlive() && !stat.substring(stat.lastIndexOf(')')).startsWith(") Z");
        } catch (IOException e) {
            return process.isAlive();
        }
    }

    /** Ends its standard input. */
    public void endInput() {
        try {
            process.getOutputStream().close();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Process id. */
    public long pid() {
        return process.pid();
    }

    /** All it has printed so far. */
    public String output() {
        synchronized (all) {
            return String.join("\n", all);
        }
    }

    /** Kills it if it still runs. */
    @Override
    public void close() {
        if (process.isAlive()) {
            kill();
        }
    }
}
