import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.FileSystems
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/** The parameters, checked against nextflow_schema.json, which alone knows their types and bounds. */
class Parameters {

    /** Names of the schema, each with its value in the schema's type, null where none is set. */
    final Map<String, Object> values = new LinkedHashMap<String, Object>()

    /** What is wrong, one line each: what came, and what to do. */
    final List<String> problems = []

    private final Map<String, Map> schema

    Parameters(Map given, Path schemaFile) {
        schema = properties(schemaFile)
        given.each { key, value -> checkName(key.toString(), given) }
        schema.each { name, property -> values[name] = checked(name, given[name], property) }
    }

    /** The properties of all groups of a schema by name, each with its group's title and whether it is required. */
    static Map<String, Map> properties(Path schemaFile) {
        final all = new LinkedHashMap<String, Map>()
        final schema = new JsonSlurper().parse(schemaFile.toFile()) as Map
        (schema['$defs'] as Map).each { key, group ->
            (group.properties as Map).each { name, property ->
                all[name.toString()] = (property as Map) + [group: group.title, required: (group.required ?: []).contains(name)]
            }
        }
        return all
    }

    /** Names of the parameters of a group of the schema. */
    static List<String> namesOf(String group, Path schemaFile) {
        final schema = new JsonSlurper().parse(schemaFile.toFile()) as Map
        return schema['$defs'][group].properties.keySet().toList()
    }

    /** All parameters as JSON, a line each. */
    String json() {
        return JsonOutput.prettyPrint(JsonOutput.toJson(values)) + '\n'
    }

    /** JSON in one line, without some of the parameters. */
    String jsonWithout(Collection<String> names) {
        return JsonOutput.toJson(values.findAll { name, value -> !names.contains(name) })
    }

    /** The text of --help: the parameters by group, with allowed values and default. */
    static String help(Map defaults, Path schemaFile) {
        final lines = ['rsc-flow: single-cell and spatial transcriptomics from raw counts to report, on GPU or CPU', '',
                       'usage: nextflow run . -profile gpu --input samplesheet.csv --outdir results', '']
        properties(schemaFile).groupBy { name, property -> property.group }.each { title, members ->
            lines << title.toString()
            members.each { name, property ->
                final allowed = property.enum ? " {${property.enum.join(', ')}}" : ''
                final value = defaults[name] in [null, '', true] ? '' : " [${defaults[name]}]"
                lines << "  --${name.padRight(18)} ${property.description}${allowed}${value}".toString()
            }
            lines << ''
        }
        return lines.join('\n')
    }

    private void checkName(String name, Map given) {
        final isTwin = given.keySet().any { other -> other.toString().contains('-') && camelCase(other.toString()) == name }
        if (schema.containsKey(name) || isTwin) {   // Nextflow adds minGenes to --min-genes: one message is enough
            return
        }
        final near = schema.keySet().min { known -> distance(name.toLowerCase().replace('-', '_'), known) }
        problems << "--${name}: there is no such parameter. Did you mean --${near}? See --help.".toString()
    }

    private Object checked(String name, Object given, Map property) {
        if (given == null || (given == '' && property.format)) {
            if (property.required) {
                problems << "--${name}: missing. ${property.description}".toString()
            }
            return property.default
        }
        final value = typed(given instanceof Collection ? given.join(',') : given, property.type.toString())
        final wrong = value == null ? "is not ${TYPES[property.type]}" : breach(value, property)
        if (wrong) {
            problems << "--${name}: '${given}' ${wrong}. ${property.description}".toString()
        }
        return value
    }

    private static final Map<String, String> TYPES = [
        integer: 'a whole number', number: 'a number', boolean: 'true or false', string: 'a text'
    ]

    /** The value in its type, whether Nextflow has read the command line as text or not; null if it cannot be. */
    private static Object typed(Object value, String type) {
        final text = value.toString()
        switch (type) {
            case 'integer': return text ==~ /[+-]?\d{1,18}/ ? text.toLong() : null
            case 'number': return text.isBigDecimal() ? text.toBigDecimal() : null
            case 'boolean': return text in ['true', 'false'] ? text.toBoolean() : null
            default: return value instanceof Boolean ? null : text
        }
    }

    private static String breach(Object value, Map property) {
        if (property.enum && !property.enum.contains(value)) {
            return "is not allowed: it must be one of ${property.enum.join(', ')}"
        }
        if (property.pattern && !(value ==~ property.pattern)) {
            return 'is not allowed'
        }
        if (property.minimum != null && value < property.minimum) {
            return "is below ${property.minimum}"
        }
        if (property.exclusiveMinimum != null && value <= property.exclusiveMinimum) {
            return "is not above ${property.exclusiveMinimum}"
        }
        if (property.maximum != null && value > property.maximum) {
            return "is above ${property.maximum}"
        }
        if (property.format == 'file-path' && !(Nextflow.file(value) as Path).exists()) {
            return 'is not there: file not found'
        }
        return property.format == 'directory-path' && !isWritable(Nextflow.file(value) as Path) ? 'cannot be made or written to' : null
    }

    /** Makes the folder to find out; object stores tell only when they are written to. */
    private static boolean isWritable(Path folder) {
        if (folder.fileSystem != FileSystems.default) {
            return true
        }
        try {
            return Files.isWritable(Files.createDirectories(folder))
        } catch (IOException ignored) {
            return false
        }
    }

    private static String camelCase(String name) {
        return name.replaceAll(/-(\w)/) { all, letter -> letter.toUpperCase() }
    }

    /** Letters to insert, delete or replace to make a word of another. */
    private static int distance(String from, String to) {
        List<Integer> row = (0..to.size()).toList()
        from.toList().eachWithIndex { letter, i ->
            final List<Integer> next = [i + 1]
            to.toList().eachWithIndex { other, j -> next << [next[j] + 1, row[j + 1] + 1, row[j] + (letter == other ? 0 : 1)].min() }
            row = next
        }
        return row.last()
    }
}
