/*
 * LuceneAsk - an index and queries in Lucene, for comparing with ours: run_lucene.c
 * compares scores, bench/bench_text_peers.py time and size.
 *
 *     java -cp lucene-core.jar:lucene-analyzers-common.jar LuceneAsk.java DOCS QUERIES K REPEATS POSITIONS
 *
 * DOCS has a document a line, QUERIES a query a line: kind (or, and, phrase), a tab,
 * and terms; terms are separated by spaces and taken as they are. Prints a line about
 * the index, then per query its least time in microseconds and row:score of the K best.
 */
import java.io.BufferedReader;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.lucene.analysis.core.WhitespaceAnalyzer;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.FieldType;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.IndexOptions;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause.Occur;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.PhraseQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.search.TopScoreDocCollector;
import org.apache.lucene.store.FSDirectory;

public class LuceneAsk {
    static Query query(String line) {
        String[] parts = line.split("\t", 2);
        String[] terms = parts.length < 2 || parts[1].isEmpty() ? new String[0] : parts[1].split(" ");
        if (parts[0].equals("phrase")) return new PhraseQuery("t", terms);
        Map<String, Integer> counts = new LinkedHashMap<>();
        for (String term : terms) counts.merge(term, 1, Integer::sum);
        BooleanQuery.Builder all = new BooleanQuery.Builder();
        counts.forEach((term, count) -> {
            Query one = new TermQuery(new Term("t", term));
            all.add(count == 1 ? one : new BoostQuery(one, count), parts[0].equals("and") ? Occur.MUST : Occur.SHOULD);
        });
        return all.build();
    }

    static long cpuNanos() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    static void index(Path docs, Path folder, boolean positions) throws Exception {
        FieldType type = new FieldType();
        type.setTokenized(true);
        type.setIndexOptions(positions ? IndexOptions.DOCS_AND_FREQS_AND_POSITIONS : IndexOptions.DOCS_AND_FREQS);
        IndexWriterConfig config = new IndexWriterConfig(new WhitespaceAnalyzer());
        config.setRAMBufferSizeMB(512);
        config.setUseCompoundFile(false);
        try (IndexWriter writer = new IndexWriter(FSDirectory.open(folder), config);
                BufferedReader in = Files.newBufferedReader(docs, StandardCharsets.UTF_8)) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                Document d = new Document();
                d.add(new Field("t", line, type));
                writer.addDocument(d);
            }
            writer.forceMerge(1);
            writer.commit();
        }
    }

    static long size(Path folder) throws Exception {
        long sum = 0;
        try (DirectoryStream<Path> files = Files.newDirectoryStream(folder)) {
            for (Path file : files) sum += Files.size(file);
        }
        return sum;
    }

    public static void main(String[] args) throws Exception {
        int k = Integer.parseInt(args[2]), repeats = Integer.parseInt(args[3]);
        Path folder = Files.createTempDirectory("lucene");
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        long cpu = cpuNanos();
        index(Path.of(args[0]), folder, args[4].equals("positions"));
        cpu = cpuNanos() - cpu;
        List<Query> queries = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(args[1]), StandardCharsets.UTF_8)) queries.add(query(line));
        try (DirectoryReader reader = DirectoryReader.open(FSDirectory.open(folder))) {
            IndexSearcher searcher = new IndexSearcher(reader);
            searcher.setQueryCache(null);
            long[] least = new long[queries.size()];
            ScoreDoc[][] found = new ScoreDoc[queries.size()][];
            java.util.Arrays.fill(least, Long.MAX_VALUE);
            for (int run = 0; run < repeats; run++) {
                for (int i = 0; i < queries.size(); i++) {
                    long start = System.nanoTime();
                    TopScoreDocCollector best = TopScoreDocCollector.create(k, null, k);
                    searcher.search(queries.get(i), best);
                    found[i] = best.topDocs().scoreDocs;
                    least[i] = Math.min(least[i], System.nanoTime() - start);
                }
            }
            out.printf("index cpu_s %.2f bytes %d%n", cpu / 1e9, size(folder));
            for (int i = 0; i < queries.size(); i++) {
                out.printf("%.1f", least[i] / 1e3);
                for (ScoreDoc hit : found[i]) out.print(" " + hit.doc + ":" + hit.score);
                out.println();
            }
        } finally {
            try (DirectoryStream<Path> files = Files.newDirectoryStream(folder)) {
                for (Path file : files) Files.delete(file);
            }
            Files.delete(folder);
        }
        out.flush();
    }
}
