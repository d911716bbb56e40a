package org.ferrowal.demo;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * A JVM that the harness starts, watches and kills. Its standard input stays open as long as the harness lives; the
 * programs of the demo end when it does, so that nothing is left behind even if the harness itself is killed.
 */
final class JavaProcess {
    /** The line by which a program says that it is up. */
    static final String READY = "ready";

    private final String name;
    private final Process process;
    private final Path output;
    private final Path log;

    private JavaProcess(String name, Process process, Path output, Path log) {
        this.name = name;
        this.process = process;
        this.output = output;
        this.log = log;
    }

    /** What to start. Options are the JVM's; {@code prefix} is a command that runs it, such as strace. */
    record Command(String name, List<String> prefix, String classpath, List<String> options, Class<?> main,
            List<String> arguments) {
    }

    /** Starts it, with its log ({@code <name>.log}) and its standard output and error ({@code <name>.out}) in {@code logs}. */
    static JavaProcess start(Command command, Path logs) {
        Path output = logs.resolve(command.name + ".out");
        Path log = logs.resolve(command.name + ".log");
        List<String> line = new ArrayList<>(command.prefix);
        line.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        line.addAll(command.options);
        line.add("-Ddemo.log=" + log);
        line.add("-XX:ErrorFile=" + logs.resolve(command.name + ".hs_err"));
        line.add("-cp");
        line.add(command.classpath);
        line.add(command.main.getName());
        line.addAll(command.arguments);
        try {
            Files.createDirectories(logs);
            Process process = new ProcessBuilder(line).redirectErrorStream(true).redirectOutput(output.toFile()).start();
            return new JavaProcess(command.name, process, output, log);
        } catch (IOException e) {
            throw new DemoException("Could not start " + command.name + ": " + e.getMessage(), e);
        }
    }

    /** Waits for the program's {@link #READY} line. */
    void awaitReady(int seconds) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!outputLines().contains(READY)) {
            checkAlive(20);
            if (System.nanoTime() > deadline) {
                throw new DemoException(name + " was not ready after " + seconds + " s. " + whereToLook());
            }
        }
    }

    /** Lets {@code milliseconds} pass, and throws if the process ends meanwhile. */
    void checkAlive(long milliseconds) {
        try {
            if (process.waitFor(milliseconds, TimeUnit.MILLISECONDS)) {
                throw new DemoException(name + " ended by itself with exit code " + process.exitValue() + ". "
                    + whereToLook());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new DemoException("Interrupted while " + name + " ran", e);
        }
    }

    /** Waits for the end of a program that is to end by itself, and gives what it printed. */
    List<String> awaitSuccess(int seconds) {
        try {
            if (!process.waitFor(seconds, TimeUnit.SECONDS)) {
                kill();
                throw new DemoException(name + " did not end within " + seconds + " s. " + whereToLook());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new DemoException("Interrupted while " + name + " ran", e);
        }
        if (process.exitValue() != 0) {
            throw new DemoException(name + " failed with exit code " + process.exitValue() + ". " + whereToLook());
        }
        return outputLines();
    }

    /** kill -9, and waits until the process is gone. Does nothing to one that has ended. */
    void kill() {
        try {
            process.destroyForcibly().waitFor();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new DemoException("Interrupted while " + name + " was killed", e);
        }
    }

    private List<String> outputLines() {
        try {
            return Files.readAllLines(output);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private String whereToLook() {
        StringBuilder text = new StringBuilder("See " + output);
        if (Files.exists(log)) {
            text.append(" and ").append(log);
        }
        List<String> lines = outputLines();
        for (String line : lines.subList(Math.max(0, lines.size() - 5), lines.size())) {
            text.append("\n    ").append(line);
        }
        return text.toString();
    }

    /** For the programs: returns when standard input ends. */
    static void awaitEndOfInput() throws IOException {
        InputStream in = System.in;
        while (in.read() >= 0) {
            // Nobody writes to it.
        }
    }

    /** For the programs: ends this JVM at once when standard input ends, as after the end of the harness. */
    static void endWithInput() {
        Thread watch = new Thread(() -> {
            try {
                awaitEndOfInput();
            } catch (IOException e) {
                e.printStackTrace();
            }
            Runtime.getRuntime().halt(0);
        }, "end-with-input");
        watch.setDaemon(true);
        watch.start();
    }
}
