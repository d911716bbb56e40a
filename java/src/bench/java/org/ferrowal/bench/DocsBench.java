package org.ferrowal.bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Runs everything and puts what came out into the page that shows it: each command in a JVM of its own, its output between
 * the marks {@code <!-- bench: NAME -->} and {@code <!-- end -->}; all that was to be reached at the mark {@code verdicts};
 * the grid's cells on a page of their own; the charts beside the pages.
 */
@Command(name = "docs", sortOptions = false, usageHelpWidth = 110,
    description = "Runs every command and puts tables and charts into docs/benchmarks.md and docs/benchmarks-grid.md: hours.")
final class DocsBench implements Callable<Integer> {
    @Option(names = "--only", split = ",", description = "Commands to run anew (default all); the others' sections stay.")
    private List<String> only;
    @Option(names = "--page", defaultValue = "docs/benchmarks.md", description = "The page (default ${DEFAULT-VALUE}).")
    private Path page;
    @Option(names = "--tiny", description = "The shortest run of each command there is: figures that mean nothing, to see that "
        + "all of it works.")
    private boolean tiny;
    @Option(names = "--grid", split = " ", description = "Flags of append, such as a part of the grid: "
        + "--grid '--sizes 1k,64k --seconds 0.3'.")
    private List<String> gridFlags = List.of();
    @Mixin
    private Workspace space;

    private static final String GRID = "append";
    private static final String VERDICTS = "What was to be reached";
    private static final Pattern SECTION = Pattern.compile("(?m)^### ");

    /** The commands, in the page's order, and their flags for a run that means nothing. */
    private static final Map<String, List<String>> COMMANDS = new LinkedHashMap<>();

    static {
        COMMANDS.put(GRID, List.of("--sizes", "1k,64k", "--threads", "1,8", "--rounds", "1", "--seconds", "0.2", "--no-syncs",
            "--logs", "ferrowal,filebased,channel"));
        COMMANDS.put("parts", List.of("--sizes", "1k", "--threads", "1,8", "--rounds", "1", "--seconds", "0.2"));
        COMMANDS.put("sustained", List.of("--rounds", "1", "--seconds", "1", "--bytes", "100m"));
        COMMANDS.put("read", List.of("--rounds", "1", "--bytes", "100m", "--reads", "50"));
        COMMANDS.put("reopen", List.of("--rounds", "1", "--bytes", "200m"));
        COMMANDS.put("clean", List.of("--rounds", "1", "--seconds", "0.5"));
        COMMANDS.put("codecs", List.of("--sizes", "64k", "--rounds", "1", "--seconds", "0.3"));
        COMMANDS.put("jni", List.of("--forks", "1", "--iterations", "1", "--seconds", "0.2"));
        COMMANDS.put("spark", List.of("--rounds", "1", "--warm", "3", "--batches", "3"));
        COMMANDS.put("growth", List.of("--segments", "1,10", "--readers", "1,10", "--writes", "200"));
    }

    @Override
    public Integer call() throws Exception {
        String text = Files.readString(page);
        Path outputs = Files.createDirectories(space.home().resolve("docs"));
        int worst = 0;
        for (Map.Entry<String, List<String>> command : COMMANDS.entrySet()) {
            if (wanted(command.getKey())) {
                List<String> flags = command.getKey().equals(GRID) ? gridFlags : List.of();
                int code = run(command.getKey(), tiny ? command.getValue() : flags, outputs.resolve(command.getKey() + ".md"));
                // A row that failed is in the table; a command that did not end keeps the page as it was.
                if (code > 1) {
                    System.err.println(command.getKey() + " ended with " + code + ": its section stays as it is");
                    Files.deleteIfExists(outputs.resolve(command.getKey() + ".md"));
                }
                worst = Math.max(worst, code);
            }
        }
        List<String> verdicts = new ArrayList<>();
        for (String command : COMMANDS.keySet()) {
            Path output = outputs.resolve(command + ".md");
            if (!Files.exists(output)) {
                continue;
            }
            String said = Files.readString(output).strip();
            verdicts.addAll(verdicts(said));
            String shown = withoutVerdicts(said);
            if (!command.equals(GRID)) {
                text = replace(text, command, shown);
            } else if (wanted(command)) {
                grid(shown);
            }
        }
        text = replace(text, "verdicts", "| work | to reach | measured: median (least–most) | reached |\n|---|---|---|---|\n"
            + String.join("\n", verdicts));
        Files.writeString(page, text);
        System.out.println("\nWritten: " + Workspace.shown(page) + ", its charts, and the grid's own page.");
        return worst;
    }

    private int run(String command, List<String> flags, Path output) throws IOException, InterruptedException {
        System.out.println("\n# " + command + "\n");
        List<String> line = Child.java();
        line.addAll(List.of(Bench.class.getName(), command, "--charts", page.resolveSibling("charts").toString()));
        line.addAll(flags);
        Process child = new ProcessBuilder(line).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        try (InputStream in = child.getInputStream()) {
            copy(in, said, System.out);
        }
        Files.write(output, said.toByteArray());
        return child.waitFor();
    }

    private static void copy(InputStream in, OutputStream... outs) throws IOException {
        byte[] bytes = new byte[8192];
        for (int n = in.read(bytes); n >= 0; n = in.read(bytes)) {
            for (OutputStream out : outs) {
                out.write(bytes, 0, n);
                out.flush();
            }
        }
    }

    private boolean wanted(String command) {
        return only == null || only.contains(command);
    }

    /** The cells' tables are long: a page of their own. */
    private void grid(String shown) throws IOException {
        Files.writeString(page.resolveSibling("benchmarks-grid.md"), "# The grid\n\nWhat `make bench-docs` printed for `" + GRID
            + String.join(" ", gridFlags).replaceFirst("^(?=.)", " ") + "`, the "
            + "grid of all rows; [benchmarks.md](" + page.getFileName() + ") says how to read it.\n\n" + shown + "\n");
    }

    /** A report begins with the machine; what a library prints before that is left out. */
    private static String replace(String text, String mark, String with) {
        Matcher place = Pattern.compile("(?s)(<!-- bench: " + mark + " -->\\n).*?(\\n<!-- end -->)").matcher(text);
        if (!place.find()) {
            throw new BenchException("the page has no place for " + mark + ": <!-- bench: " + mark + " --> and <!-- end -->");
        }
        int start = with.indexOf("Machine: ");
        String report = start > 0 ? with.substring(start) : with;
        return place.replaceFirst("$1" + Matcher.quoteReplacement(report) + "$2");
    }

    private static List<String> verdicts(String said) {
        List<String> lines = new ArrayList<>();
        boolean inside = false;
        for (String line : said.split("\n")) {
            if (line.startsWith("### ")) {
                inside = line.contains(VERDICTS);
            } else if (inside && line.startsWith("| ") && !line.startsWith("| work |")) {
                lines.add(line);
            }
        }
        return lines;
    }

    /** All parts but the one with the verdicts; what follows its table stays. */
    private static String withoutVerdicts(String said) {
        StringBuilder kept = new StringBuilder();
        for (String part : said.split(SECTION.pattern())) {
            if (part.startsWith(VERDICTS)) {
                List<String> after = part.lines().skip(1).filter(line -> !line.startsWith("|")).toList();
                kept.append(String.join("\n", after));
            } else {
                kept.append(kept.length() == 0 ? "" : "### ").append(part);
            }
        }
        return kept.toString().strip();
    }
}
