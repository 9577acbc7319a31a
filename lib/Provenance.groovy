import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Path

/** What a run was made from, for its results. */
class Provenance {

    /** JSON of parameters, the project's revision, the images and versions; nothing that differs from run to run. */
    static String of(Map given, String parameters) {
        final images = given.engine ? given.images : [:]
        return JsonOutput.toJson([
            parameters: new JsonSlurper().parseText(parameters),
            revision: given.commit ?: revision(given.project as Path),
            version: given.version,
            nextflow: given.nextflow,
            container_engine: given.engine ?: '',
            images: images,
        ])
    }

    /** The commit of a folder that git made, `+` behind it is for later edits of which git alone knows; '' where there is none. */
    static String revision(Path project) {
        try {
            final process = ['git', '-C', project.toString(), 'describe', '--always', '--dirty=+', '--abbrev=40', '--exclude', '*'].execute()
            final text = process.text.trim()
            return process.waitFor() == 0 ? text : ''
        } catch (IOException ignored) {
            return ''
        }
    }
}
