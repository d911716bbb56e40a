package org.ferrowal.bench;

import java.util.Set;

import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * The benchmark's commands. Nothing here fails because something was slow. Exit code 0 if every row ran, 1 if one failed
 * (the table says which), 2 for bad flags, 3 if the benchmark could not be carried through.
 */
@Command(name = "bench", sortOptions = false, usageHelpWidth = 110,
    description = "Measures ferrowal beside what the device itself does and beside other logs. Without a command: append.",
    subcommands = {AppendBench.class, PartsBench.class, SustainedBench.class, ReadBench.class, ReopenBench.class, CleanBench.class,
        CodecsBench.class, JniBench.class, SparkBench.class, HomesBench.class, GrowthBench.class, SoakBench.class,
        MetricsBench.class, DocsBench.class})
public final class Bench {
    @Option(names = {"-h", "--help"}, usageHelp = true, description = "Shows this.")
    private boolean help;

    /** See {@code --help}. */
    public static void main(String[] args) {
        CommandLine line = new CommandLine(new Bench()).setExecutionExceptionHandler((e, command, parsed) -> {
            System.err.print("\nThe benchmark could not be carried through. ");
            if (e instanceof BenchException) {
                System.err.println(e.getMessage());
            } else {
                e.printStackTrace();
            }
            return 3;
        });
        int code = line.execute(withCommand(args, line.getSubcommands().keySet()));
        // Spark's and Hadoop's threads would keep the JVM.
        System.exit(code);
    }

    private static String[] withCommand(String[] args, Set<String> commands) {
        if (args.length > 0 && (commands.contains(args[0]) || args[0].equals("-h") || args[0].equals("--help"))) {
            return args;
        }
        String[] all = new String[args.length + 1];
        all[0] = "append";
        System.arraycopy(args, 0, all, 1, args.length);
        return all;
    }
}
