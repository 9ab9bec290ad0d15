# A plugin of sos report: copy it to sos/report/plugins/ of the Python packages.

from sos.report.plugins import Plugin, RedHatPlugin, DebianPlugin, UbuntuPlugin


class Xentrace(Plugin, RedHatPlugin, DebianPlugin, UbuntuPlugin):

    short_desc = 'xentrace: packets that the Xen network frontend drops'

    plugin_name = 'xentrace'
    profiles = ('network', 'virt')
    packages = ('xentrace',)
    commands = ('xentrace',)
    services = ('xentrace',)

    def setup(self):
        self.add_cmd_output([
            'xentrace version -o json',
            'xentrace check',
            'xentrace check -o json',
            'xentrace fix',
        ])
        self.add_copy_spec(['/etc/default/xentrace', '/var/lib/xentrace/fix.json'])
        # The newest of the recording, as much as sos allows.
        self.add_copy_spec('/var/lib/xentrace/recording/*.jsonl.zst')
