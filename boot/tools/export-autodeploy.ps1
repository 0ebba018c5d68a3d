<#
.SYNOPSIS
Writes the rules of a vSphere Auto Deploy into a JSON file that "midwife rule import" reads.

.DESCRIPTION
Reads only; changes nothing in vCenter. The file has the names, patterns and items of all rules, the hidden ones
too, and the order of the active and the working rule set. It has no secret in it: of a host profile and of a
script bundle only the name, of an image profile name and vendor.

Needs PowerCLI 12 or 13 with the modules VMware.VimAutomation.Core and VMware.DeployAutomation, and a user that
may see the rules and the inventory. Written for Windows PowerShell 5.1 and PowerShell 7.

NOT TRIED: it was written from VMware's cmdlet reference and public transcripts, without a vCenter at hand. Known
from there: Get-DeployRuleSet -Active and -Working give an object with RuleList; a rule has Name, PatternList
(empty for -AllHosts) and ItemList. Not known: the .NET types of the items. Where the script does not recognise
one, it writes the type's name with the kind "unknown", and midwife says which item that was.

.EXAMPLE
Connect-VIServer vcenter.example.com
.\export-autodeploy.ps1 -Path autodeploy.json
#>
param(
    [Parameter(Mandatory = $true)]
    [string] $Path
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

# A number that "midwife rule import" knows. It changes whenever the meaning of the file does.
$formatVersion = 1

function Get-Field($object, $name) {
    # A property that is not there must not look like an empty one: a rule without its patterns is for all hosts.
    $property = $object.PSObject.Properties[$name]
    if ($null -eq $property) {
        throw "A $($object.GetType().FullName) has no $name. This PowerCLI is not one that the script knows."
    }
    return $property.Value
}

function Get-InventoryPath($item) {
    # Every object above it, from the top, itself last. vCenter's root folder and the hidden folder called "host"
    # in each datacenter are not shown by the vSphere Client, and not written here.
    $path = @()
    $reference = (Get-View -Id $item.Id -Property Name).MoRef
    while ($null -ne $reference) {
        $view = Get-View -Id $reference -Property @('Name', 'Parent')
        $parent = $view.Parent
        $isRoot = ($null -eq $parent)
        $isHidden = ($reference.Type -eq 'Folder') -and (-not $isRoot) -and ($parent.Type -eq 'Datacenter')
        if ((-not $isRoot) -and (-not $isHidden)) {
            $kind = switch ($reference.Type) {
                'Datacenter' { 'datacenter' }
                'Folder' { 'folder' }
                'ClusterComputeResource' { 'cluster' }
                default { 'unknown' }
            }
            # vCenter writes / \ and % in names as %2f, %5c and %25; they stay so.
            $path = @([ordered]@{ kind = $kind; name = [string] $view.Name }) + $path
        }
        $reference = $parent
    }
    return , $path
}

function Find-ByName($name) {
    # An item that is only a name. Image profiles are in no inventory: what is nothing else is one of them.
    $found = Get-VMHostProfile -Name $name -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($null -eq $found) { $found = Get-Cluster -Name $name -ErrorAction SilentlyContinue | Select-Object -First 1 }
    if ($null -eq $found) { $found = Get-Datacenter -Name $name -ErrorAction SilentlyContinue | Select-Object -First 1 }
    if ($null -eq $found) { $found = Get-Folder -Name $name -Type HostAndCluster -ErrorAction SilentlyContinue | Select-Object -First 1 }
    if ($null -eq $found) { $found = Get-ScriptBundle -Name $name -ErrorAction SilentlyContinue | Select-Object -First 1 }
    return $found
}

function Convert-Item($item) {
    if ($item -is [string]) {
        $found = Find-ByName $item
        if ($null -eq $found) {
            return [ordered]@{ kind = 'image-profile'; name = $item; type = 'System.String' }
        }
        $item = $found
    }
    $type = $item.GetType().FullName
    $result = [ordered]@{ kind = 'unknown'; name = [string] (Get-Field $item 'Name'); type = $type }
    if ($type -match 'ImageProfile') {
        $result.kind = 'image-profile'
        $vendor = $item.PSObject.Properties['Vendor']
        if ($null -ne $vendor) { $result.vendor = [string] $vendor.Value }
    }
    elseif ($type -match 'HostProfile') { $result.kind = 'host-profile' }
    elseif ($type -match 'ScriptBundle') { $result.kind = 'script-bundle' }
    elseif ($type -match 'Datacenter') { $result.kind = 'datacenter' }
    elseif ($type -match 'Cluster') { $result.kind = 'cluster' }
    elseif ($type -match 'Folder') { $result.kind = 'folder' }
    if (@('datacenter', 'cluster', 'folder') -contains $result.kind) {
        $result.path = [object[]] (Get-InventoryPath $item)
    }
    return $result
}

function Convert-Rule($rule) {
    # [object[]] keeps lists of one and of none what they are: a list.
    $patterns = [object[]] @(Get-Field $rule 'PatternList' | Where-Object { $_ } | ForEach-Object { [string] $_ })
    $items = [object[]] @(Get-Field $rule 'ItemList' | Where-Object { $null -ne $_ } | ForEach-Object { Convert-Item $_ })
    return [ordered]@{
        name     = [string] (Get-Field $rule 'Name')
        allHosts = ($patterns.Count -eq 0)
        patterns = $patterns
        items    = $items
    }
}

function Convert-Rules($rules) {
    $converted = [object[]] @($rules | Where-Object { $null -ne $_ } | ForEach-Object { Convert-Rule $_ })
    return , $converted
}

# Get-DeployRule leaves out the rules whose names begin with a dot, unless a wildcard that begins with one asks for them.
$visible = @(Get-DeployRule)
$hidden = @(Get-DeployRule -Name '.*' -ErrorAction SilentlyContinue)
$active = Get-DeployRuleSet -Active
$working = Get-DeployRuleSet -Working

$server = ''
if ($global:DefaultVIServer) { $server = [string] $global:DefaultVIServer.Name }

$export = [ordered]@{
    format   = 'midwife-autodeploy'
    version  = $formatVersion
    server   = $server
    exported = (Get-Date).ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ')
    rules    = [object[]] (Convert-Rules ($visible + $hidden))
    # Whole rules, not names: after Copy-DeployRule -NoActivate both sets may hold a rule of the same name.
    active   = [object[]] (Convert-Rules (Get-Field $active 'RuleList'))
    working  = [object[]] (Convert-Rules (Get-Field $working 'RuleList'))
}

# The file is UTF-8; PowerShell 5.1 begins it with a byte order mark, which is welcome.
ConvertTo-Json -InputObject $export -Depth 10 | Set-Content -LiteralPath $Path -Encoding UTF8
Write-Host "$($export.rules.Count) rules, $($export.active.Count) of them active, written to $Path."
Write-Host "Next: midwife rule import $Path --dry-run"
