package org.ferrowal.demo;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Replays the system calls that strace recorded of a {@link LogWriter} on a {@link DiskModel}. A call takes effect when it
 * returns; a sync covers what had been written when it began; a call that failed has no effect.
 */
final class Trace {
    /** Told after each acknowledgement, in the order of the recording. */
    interface Listener {
        void acknowledged(int count) throws IOException;
    }

    private static final int LONGEST_STRING = 16 << 20;
    private static final Set<String> SYNCS = Set.of("fsync", "fdatasync");
    private static final Set<String> BY_DESCRIPTOR = Set.of("write", "writev", "pwrite64", "pwritev", "pwritev2",
        "lseek", "ftruncate", "fallocate", "fsync", "fdatasync", "dup", "dup2", "dup3", "fcntl");
    /** Calls that would change the log in ways that the model does not have. */
    private static final Set<String> REFUSED = Set.of("copy_file_range", "sendfile", "syncfs", "truncate", "symlink",
        "symlinkat", "creat");

    private final DiskModel disk;
    private final Path root;
    private final Path acknowledgements;
    private final Listener listener;
    private final Map<String, String> unfinished = new HashMap<>();
    private final Map<String, DiskModel.PendingSync> syncs = new HashMap<>();
    private final Map<String, OpenFile> open = new HashMap<>();
    private int acknowledged;
    private int writeCalls;
    private int syncCalls;

    private static final class OpenFile {
        final DiskModel.Node node;
        final boolean append;
        final boolean synced;
        int position;

        OpenFile(DiskModel.Node node, String flags) {
            this.node = node;
            this.append = flags.contains("O_APPEND");
            this.synced = flags.contains("O_DSYNC") || flags.contains("O_SYNC");
        }
    }

    Trace(DiskModel disk, Path root, Path acknowledgements, Listener listener) {
        this.disk = disk;
        this.root = root;
        this.acknowledgements = acknowledgements;
        this.listener = listener;
    }

    /** The command that records a program's calls to {@code file}; the program's own command follows it. */
    static List<String> recorder(Path file) {
        return List.of("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", Integer.toString(LONGEST_STRING),
            "-e", "signal=none", "-e", "trace=?open,openat,?openat2,?creat,?mkdir,mkdirat,?rename,?renameat,renameat2,"
            + "?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,write,writev,pwrite64,pwritev,pwritev2,lseek,"
            + "truncate,ftruncate,fallocate,fsync,fdatasync,syncfs,copy_file_range,sendfile,"
            + "dup,?dup2,dup3,fcntl",
            "-o", file.toString());
    }

    /** Calls that wrote to the log, and calls that synced it. */
    int writeCalls() {
        return writeCalls;
    }

    /** See {@link #writeCalls}. */
    int syncCalls() {
        return syncCalls;
    }

    void replay(Path file) throws IOException {
        String ours = hex(root.toString());
        String acks = hex(acknowledgements.toString());
        try (BufferedReader lines = Files.newBufferedReader(file, StandardCharsets.ISO_8859_1)) {
            for (String line; (line = lines.readLine()) != null;) {
                int space = line.indexOf(' ');
                String thread = line.substring(0, space);
                String text = line.substring(space).stripLeading();
                if (text.endsWith(" <unfinished ...>")) {
                    text = text.substring(0, text.length() - " <unfinished ...>".length());
                    unfinished.put(thread, text);
                    if (text.contains(ours)) {
                        begin(thread, text);
                    }
                    continue;
                }
                if (text.startsWith("<... ")) {
                    text = unfinished.remove(thread) + text.substring(text.indexOf(" resumed>") + " resumed>".length());
                } else if (text.contains(ours)) {
                    begin(thread, text);
                }
                if (text.contains(acks) && text.startsWith("write(")) {
                    listener.acknowledged(++acknowledged);
                } else if (text.contains(ours)) {
                    end(thread, text);
                }
            }
        }
    }

    /** What calls were about that the end of the process cut short: nobody knows whether they took effect. */
    Set<Path> inDoubt() {
        Set<Path> paths = new HashSet<>();
        for (String text : unfinished.values()) {
            if (!text.contains(hex(root.toString()))) {
                continue;
            }
            for (String argument : arguments(text.substring(text.indexOf('(') + 1))) {
                if (argument.indexOf('<') >= 0) {
                    paths.add(path(argument));
                } else if (argument.startsWith("\"\\x2f")) {
                    paths.add(resolve(null, argument));
                }
            }
        }
        Set<Path> parents = new HashSet<>();
        paths.forEach(path -> parents.add(path.getParent()));
        paths.addAll(parents);
        return paths;
    }

    private void begin(String thread, String text) {
        String name = text.substring(0, text.indexOf('('));
        if (SYNCS.contains(name)) {
            if (disk.covers(path(text))) {
                syncs.put(thread, file(text.substring(text.indexOf('(') + 1)).node.beginSync());
            }
        }
    }

    private void end(String thread, String text) {
        int equals = text.lastIndexOf(" = ");
        String name = text.substring(0, text.indexOf('('));
        String result = text.substring(equals + 3);
        if (equals < 0 || result.startsWith("-1") || result.startsWith("?")) {
            syncs.remove(thread);
            if (result.startsWith("?")) {
                unfinished.put(thread, text); // The end of the process came first.
            }
            return;
        }
        List<String> args = arguments(text.substring(text.indexOf('(') + 1, text.lastIndexOf(')', equals)));
        if (REFUSED.contains(name)) {
            throw new DemoException("The log used the system call " + name + ", which the simulated power cut does not know");
        }
        if (BY_DESCRIPTOR.contains(name) && !disk.covers(path(text))) {
            return; // Something else that mentions our path, such as the command line of a child process.
        }
        switch (name) {
            case "open" -> opened(resolve(null, args.get(0)), args.get(1), result);
            case "openat", "openat2" -> opened(resolve(args.get(0), args.get(1)), args.get(2), result);
            case "mkdir" -> made(resolve(null, args.get(0)));
            case "mkdirat" -> made(resolve(args.get(0), args.get(1)));
            case "rename" -> renamed(resolve(null, args.get(0)), resolve(null, args.get(1)), "");
            case "renameat" -> renamed(resolve(args.get(0), args.get(1)), resolve(args.get(2), args.get(3)), "");
            case "renameat2" -> renamed(resolve(args.get(0), args.get(1)), resolve(args.get(2), args.get(3)), args.get(4));
            case "link" -> disk.link(resolve(null, args.get(0)), resolve(null, args.get(1)));
            case "linkat" -> disk.link(resolve(args.get(0), args.get(1)), resolve(args.get(2), args.get(3)));
            case "unlink", "rmdir" -> removed(resolve(null, args.get(0)));
            case "unlinkat" -> removed(resolve(args.get(0), args.get(1)));
            case "dup", "dup2", "dup3" -> open.put(descriptor(result), file(args.get(0)));
            case "fcntl" -> {
                if (args.get(1).startsWith("F_DUPFD")) {
                    open.put(descriptor(result), file(args.get(0)));
                }
            }
            case "lseek" -> file(args.get(0)).position = Integer.parseInt(result);
            case "ftruncate" -> file(args.get(0)).node.resize(Integer.parseInt(args.get(1)));
            case "fallocate" -> allocated(args);
            case "write", "writev" -> wrote(args, -1, Integer.parseInt(result));
            case "pwrite64", "pwritev", "pwritev2" -> wrote(args, Integer.parseInt(args.get(3)), Integer.parseInt(result));
            case "fsync", "fdatasync" -> {
                syncCalls++;
                syncs.remove(thread).complete();
            }
            default -> throw new DemoException("The simulated power cut does not know the system call " + name);
        }
    }

    private void opened(Path path, String flags, String result) {
        if (!disk.covers(path)) {
            return;
        }
        if (flags.contains("O_TMPFILE")) {
            throw new DemoException("The simulated power cut does not know files without a name (O_TMPFILE)");
        }
        if (!flags.contains("O_CREAT") && disk.find(path).isEmpty()) {
            throw new DemoException("The recording opens " + path + ", which it never made");
        }
        DiskModel.Node node = disk.file(path);
        if (flags.contains("O_TRUNC")) {
            node.resize(0);
        }
        open.put(descriptor(result), new OpenFile(node, flags));
    }

    private void made(Path path) {
        if (disk.covers(path)) {
            disk.makeDirectory(path);
        }
    }

    private void removed(Path path) {
        if (disk.covers(path)) {
            disk.remove(path);
        }
    }

    private void renamed(Path from, Path to, String flags) {
        if (flags.contains("RENAME_EXCHANGE")) {
            disk.exchange(from, to);
        } else {
            disk.rename(from, to);
        }
    }

    private void allocated(List<String> args) {
        DiskModel.Node node = file(args.get(0)).node;
        if (args.get(1).contains("ZERO_RANGE") || args.get(1).contains("PUNCH") || args.get(1).contains("COLLAPSE")) {
            throw new DemoException("The simulated power cut does not know fallocate with " + args.get(1));
        }
        int end = Integer.parseInt(args.get(2)) + Integer.parseInt(args.get(3));
        if (!args.get(1).contains("KEEP_SIZE") && end > node.size()) {
            node.resize(end);
        }
    }

    private void wrote(List<String> args, int offset, int length) {
        OpenFile file = file(args.get(0));
        ByteArrayOutputStream data = new ByteArrayOutputStream(length);
        strings(args.get(1), data);
        byte[] bytes = java.util.Arrays.copyOf(data.toByteArray(), length); // A short write wrote only its result.
        int at = offset >= 0 ? offset : file.append ? file.node.size() : file.position;
        file.node.write(at, bytes, file.synced || args.get(args.size() - 1).contains("SYNC"));
        if (offset < 0) {
            file.position = at + length;
        }
        writeCalls++;
    }

    /** By descriptor, not by name: a file may have been renamed or removed meanwhile. */
    private OpenFile file(String argument) {
        String fd = descriptor(argument);
        OpenFile file = open.get(fd);
        if (file == null) {
            throw new DemoException("The recording uses descriptor " + fd + " of " + path(argument)
                + ", which it did not see opened");
        }
        return file;
    }

    private static String descriptor(String annotated) {
        return annotated.substring(0, annotated.indexOf('<'));
    }

    /** The path in the first {@code <...>}. */
    private static Path path(String text) {
        int from = text.indexOf('<') + 1;
        return Path.of(text(text.substring(from, text.indexOf('>', from))));
    }

    private static Path resolve(String directory, String quoted) {
        Path path = Path.of(text(quoted.substring(1, quoted.lastIndexOf('"'))));
        return directory == null || path.isAbsolute() ? path : path(directory).resolve(path).normalize();
    }

    /** Splits at the commas outside of strings, brackets and braces. */
    private static List<String> arguments(String text) {
        List<String> arguments = new ArrayList<>();
        int depth = 0;
        boolean quoted = false;
        int from = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"') {
                quoted = !quoted; // Inside, -xx writes a quote as \x22.
            } else if (!quoted && (c == '[' || c == '{')) {
                depth++;
            } else if (!quoted && (c == ']' || c == '}')) {
                depth--;
            } else if (!quoted && depth == 0 && c == ',') {
                arguments.add(text.substring(from, i).strip());
                from = i + 1;
            }
        }
        arguments.add(text.substring(from).strip());
        return arguments;
    }

    /** Decodes all strings of an argument, one after the other. */
    private static void strings(String argument, ByteArrayOutputStream out) {
        for (int at = argument.indexOf('"'); at >= 0;) {
            int end = argument.indexOf('"', at + 1);
            for (int i = at + 1; i < end; i += 4) {
                out.write(Character.digit(argument.charAt(i + 2), 16) << 4 | Character.digit(argument.charAt(i + 3), 16));
            }
            if (argument.startsWith("...", end + 1)) {
                throw new DemoException("A write was longer than the recording keeps");
            }
            at = argument.indexOf('"', end + 1);
        }
    }

    private static String text(String hex) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        strings('"' + hex + '"', bytes);
        return bytes.toString(StandardCharsets.UTF_8);
    }

    private static String hex(String text) {
        StringBuilder hex = new StringBuilder();
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
            hex.append(String.format("\\x%02x", b));
        }
        return hex.toString();
    }
}
