// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {ICouncil} from "./interfaces/ICouncil.sol";
import {ILedgerAnchor} from "./interfaces/ILedgerAnchor.sol";
import {LedgerAnchor} from "./LedgerAnchor.sol";
import {Names} from "./Names.sol";
import {Records, Signature} from "./Records.sol";

/// @title Council
/// @notice See ICouncil. The same rules as ledger/rules.py, S1 to N8 and B1, and one more: acts on one object come in
/// the order of the ledger.
contract Council is ICouncil {
    /// @dev A value that is in force from a second on; the last of a list whose second has come counts.
    struct Dated {
        uint64 from;
        uint128 value;
    }

    struct Share {
        uint64 from;
        uint16 minShare;
        bytes32 fund;
    }

    struct Term {
        uint64 from;
        uint64 to;
    }

    uint256 internal constant NOTICE = 14 days;
    uint256 internal constant RECOVERY_NOTICE = 180 days;
    bytes32 internal constant WITHDRAW = keccak256("Withdraw(bytes32 approves)");
    uint256 internal constant COUNCIL_FLOOR = 3;
    uint16 internal constant WHOLE = 10_000;
    bytes32 internal constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)");

    bytes32 public immutable ledger;
    uint64 public immutable retentionEnd;
    ILedgerAnchor public immutable anchor;
    bytes32 public immutable founding;

    mapping(address holder => bytes32) public roleOf;
    mapping(address token => bytes32) public assetOf;
    mapping(bytes32 name => address) public contractAt;
    mapping(address => bool) public isContract;

    mapping(bytes32 recordHash => bool) private _enacted;
    // The index, plus one, of the last act on an object.
    mapping(bytes32 object => uint64) private _next;
    mapping(address holder => Term[]) private _terms;
    // Everybody who ever held a council seat: a majority is counted over them, so its cost grows with the decades.
    address[] private _councillors;
    mapping(bytes32 role => Dated[]) private _quorums;
    mapping(bytes32 name => Dated[]) private _parameters;
    mapping(bytes32 code => Share[]) private _shares;
    mapping(bytes32 name => Asset) private _assets;
    mapping(bytes32 name => Account) private _accounts;
    // PAYEE or REPUBLIC, for whoever owns an account that can be paid.
    mapping(address owner => bytes32) private _payees;
    mapping(bytes32 projectHash => bytes32 sector) private _sectors;
    mapping(bytes32 allocationHash => Allocation) private _allocations;

    mapping(bytes32 ruleHash => bytes32) public codeOf;
    mapping(bytes32 recordHash => mapping(address signer => bool)) public isWithdrawn;

    /// @dev Makes its LedgerAnchor, because each of the two names the other: so no argument names a contract, and the place
    /// where CREATE2 puts this says by itself which code, ledger and founders it has.
    /// @param seats The founding Seat records, in the order of the ledger, where they stand before all founding quorums.
    constructor(
        bytes32 ledger_,
        uint64 retentionEnd_,
        Records.Seat[] memory seats,
        Records.Quorum[] memory quorums
    ) {
        ledger = ledger_;
        retentionEnd = retentionEnd_;
        anchor = new LedgerAnchor(this, domainSeparator());
        isContract[address(this)] = true;
        isContract[address(anchor)] = true;
        bytes memory hashes;
        for (uint256 i = 0; i < seats.length; ++i) {
            hashes = bytes.concat(hashes, Records.hash(seats[i]));
            // No notice: the Genesis binds these seats, and nobody could read it 14 days before.
            _seat(seats[i], seats[i].validFrom);
        }
        for (uint256 i = 0; i < quorums.length; ++i) {
            hashes = bytes.concat(hashes, Records.hash(quorums[i]));
            _quorum(quorums[i], uint64(block.timestamp));
        }
        founding = keccak256(hashes);
        if (_councillors.length < COUNCIL_FLOOR) revert NoQuorum(Names.COUNCIL, COUNCIL_FLOOR, _councillors.length);
    }

    /// @inheritdoc ICouncil
    function enact(
        bytes calldata record,
        uint64 index,
        uint64 headSize,
        uint64 headTime,
        bytes32[] calldata proof,
        Signature[] calldata approvals
    ) external {
        bytes32 recordHash = keccak256(record);
        if (_enacted[recordHash]) revert AlreadyEnacted(recordHash);
        bytes32 approveTypeHash = _checkShape(record, recordHash);
        anchor.checkIncluded(record, index, headSize, headTime, proof);
        bytes32 kind = bytes32(record[:32]);
        if (kind == Records.SEAT && bytes32(record[64:96]) == Names.COUNCIL && isRecovering()) {
            _checkApproved(Names.COUNCIL, approveTypeHash, recordHash, approvals, true);
        } else {
            checkApproved(Names.COUNCIL, approveTypeHash, recordHash, approvals);
        }
        bytes32 object = _takeInOrder(kind, record, index);
        _enacted[recordHash] = true;
        _apply(kind, recordHash, record[32:]);
        emit Enacted(kind, recordHash, object, index);
    }

    /// @inheritdoc ICouncil
    function withdraw(bytes32 recordHash) external {
        _withdraw(recordHash, msg.sender);
    }

    /// @inheritdoc ICouncil
    function withdraw(bytes32 recordHash, address signer, uint8 v, bytes32 r, bytes32 s) external {
        address recovered = recover(keccak256(abi.encode(WITHDRAW, recordHash)), v, r, s);
        if (recovered != signer) revert WrongSigner(signer, recovered);
        _withdraw(recordHash, signer);
    }

    /// @inheritdoc ICouncil
    function checkApproved(bytes32 role, bytes32 approveTypeHash, bytes32 recordHash, Signature[] calldata approvals)
        public
        view
    {
        _checkApproved(role, approveTypeHash, recordHash, approvals, false);
    }

    /// @inheritdoc ICouncil
    function checkSigned(bytes32 approveTypeHash, bytes32 recordHash, Signature calldata approval) public view {
        if (block.timestamp > approval.validUntil) revert SignatureExpired(approval.validUntil, block.timestamp);
        if (isWithdrawn[recordHash][approval.signer]) revert SignatureWithdrawn(recordHash, approval.signer);
        bytes32 structHash = keccak256(abi.encode(approveTypeHash, recordHash, approval.validUntil));
        address signer = recover(structHash, approval.v, approval.r, approval.s);
        if (signer != approval.signer) revert WrongSigner(approval.signer, signer);
    }

    /// @inheritdoc ICouncil
    function recover(bytes32 structHash, uint8 v, bytes32 r, bytes32 s) public view returns (address) {
        return ECDSA.recover(MessageHashUtils.toTypedDataHash(domainSeparator(), structHash), v, r, s);
    }

    /// @inheritdoc ICouncil
    function domainSeparator() public view returns (bytes32) {
        // Not cached: after a fork of the chain the same signature must not count on both sides.
        return keccak256(abi.encode(DOMAIN, keccak256("Qazyna"), keccak256("1"), block.chainid, address(this), ledger));
    }

    /// @inheritdoc ICouncil
    function seated(bytes32 role, address holder) public view returns (bool) {
        return seatedUntil(role, holder) != 0;
    }

    /// @inheritdoc ICouncil
    function seatedUntil(bytes32 role, address holder) public view returns (uint64) {
        if (roleOf[holder] != role || role == 0) return 0;
        Term[] storage terms = _terms[holder];
        for (uint256 i = terms.length; i > 0; --i) {
            Term memory term = terms[i - 1];
            if (term.from <= block.timestamp && block.timestamp < term.to) return _sooner(term.to);
        }
        return 0;
    }

    /// @inheritdoc ICouncil
    function required(bytes32 role) public view returns (uint256 needed) {
        needed = _inForce(_quorums[role], 1);
        if (role != Names.COUNCIL) return needed;
        uint256 majority = _councillorsNow() / 2 + 1;
        if (needed < majority) needed = majority;
        if (needed < COUNCIL_FLOOR) needed = COUNCIL_FLOOR;
    }

    /// @inheritdoc ICouncil
    function parameter(bytes32 name) public view returns (uint256) {
        (, uint128 most, uint128 unset) = Names.bounds(name);
        if (most == 0) revert UnknownParameter(name);
        return _inForce(_parameters[name], unset);
    }

    /// @inheritdoc ICouncil
    function parameterUntil(bytes32 name) external view returns (uint256 value, uint64 until) {
        value = parameter(name);
        until = _sooner(type(uint64).max);
        Dated[] storage dated = _parameters[name];
        for (uint256 i = dated.length; i > 0 && block.timestamp < dated[i - 1].from; --i) {
            if (dated[i - 1].from < until) until = dated[i - 1].from;
        }
    }

    /// @inheritdoc ICouncil
    function minShare(bytes32 code) external view returns (uint16 share) {
        (share,) = minShareUntil(code);
    }

    /// @inheritdoc ICouncil
    function minShareUntil(bytes32 code) public view returns (uint16 share, uint64 until) {
        Share[] storage shares = _shares[code];
        until = _sooner(type(uint64).max);
        for (uint256 i = shares.length; i > 0; --i) {
            Share memory rule = shares[i - 1];
            if (rule.from <= block.timestamp) {
                if (rule.fund != Names.RETAINED) revert FundNotRetained(rule.fund);
                return (rule.minShare, until);
            }
            if (rule.from < until) until = rule.from;
        }
        revert UnknownCode(code);
    }

    /// @inheritdoc ICouncil
    function isRepublic(address owner) external view returns (bool) {
        return _payees[owner] == Names.REPUBLIC;
    }

    /// @inheritdoc ICouncil
    function asset(bytes32 name) external view returns (Asset memory) {
        return _assets[name];
    }

    /// @inheritdoc ICouncil
    function account(bytes32 name) external view returns (Account memory) {
        return _accounts[name];
    }

    /// @inheritdoc ICouncil
    function allocation(bytes32 allocationHash) external view returns (Allocation memory) {
        return _allocations[allocationHash];
    }

    /// @inheritdoc ICouncil
    function isRecovering() public view returns (bool) {
        return _councillorsNow() < required(Names.COUNCIL);
    }

    // --- signatures -----------------------------------------------------------------------------

    /// @param everSat Whether it is enough to have sat in the council once.
    function _checkApproved(
        bytes32 role,
        bytes32 approveTypeHash,
        bytes32 recordHash,
        Signature[] calldata approvals,
        bool everSat
    ) private view {
        uint256 needed = required(role);
        if (approvals.length < needed) revert NoQuorum(role, needed, approvals.length);
        address previous = address(0);
        for (uint256 i = 0; i < approvals.length; ++i) {
            address signer = approvals[i].signer;
            // Ascending, so that nobody counts twice.
            if (signer <= previous) revert SignersNotAscending(previous, signer);
            previous = signer;
            if (!(everSat ? _hasSat(role, signer) : seated(role, signer))) revert NotSeated(role, signer);
            checkSigned(approveTypeHash, recordHash, approvals[i]);
        }
    }

    /// @dev Who has sat, not who has only been called: else the first three to come would call the rest at once.
    function _hasSat(bytes32 role, address holder) private view returns (bool) {
        if (roleOf[holder] != role) return false;
        Term[] storage terms = _terms[holder];
        for (uint256 i = 0; i < terms.length; ++i) {
            if (terms[i].from <= block.timestamp && terms[i].from < terms[i].to) return true;
        }
        return false;
    }

    function _withdraw(bytes32 recordHash, address signer) private {
        if (roleOf[signer] == 0) revert NotSeated(0, signer);
        if (_enacted[recordHash]) revert AlreadyEnacted(recordHash);
        isWithdrawn[recordHash][signer] = true;
        emit Withdrawn(recordHash, signer);
    }

    // --- the acts -------------------------------------------------------------------------------

    function _checkShape(bytes calldata record, bytes32 recordHash) private pure returns (bytes32 approveTypeHash) {
        if (record.length < 32) revert WrongLength(32, record.length);
        uint256 members;
        (approveTypeHash, members) = Records.enactable(bytes32(record[:32]));
        if (members == 0) revert UnknownKind(bytes32(record[:32]));
        if (record.length != 32 * (1 + members)) revert WrongLength(32 * (1 + members), record.length);
        // In each of these kinds the last member is the act or the document (H5).
        if (bytes32(record[record.length - 32:]) == 0) revert ActMissing(recordHash);
    }

    function _takeInOrder(bytes32 kind, bytes calldata record, uint64 index) private returns (bytes32 object) {
        // A seat is its holder's, the fourth word; any other act is about the name in the third.
        object = kind == Records.SEAT ? bytes32(record[96:128]) : bytes32(record[64:96]);
        bytes32 key = keccak256(abi.encode(kind, object));
        uint64 next = _next[key];
        // What may be said again is a seat's term and whatever has a date; any other name is given once (N1).
        bool again =
            kind == Records.SEAT || kind == Records.QUORUM || kind == Records.PARAMETER || kind == Records.REVENUE_RULE;
        if (next != 0 && !again) revert NameTaken(object);
        if (index < next) revert OutOfOrder(next - 1, index);
        _next[key] = index + 1;
    }

    /// @dev abi.decode refuses words with dirty bits (E2).
    function _apply(bytes32 kind, bytes32 recordHash, bytes calldata members) private {
        if (kind == Records.SEAT) {
            Records.Seat memory record = abi.decode(members, (Records.Seat));
            bool recovering = record.role == Names.COUNCIL && isRecovering();
            if (recovering) _checkEndsNoTerm(record);
            _seat(record, _after(record.validFrom, recovering ? RECOVERY_NOTICE : NOTICE));
        } else if (kind == Records.QUORUM) {
            Records.Quorum memory record = abi.decode(members, (Records.Quorum));
            uint256 seatedNow = _councillorsNow();
            // A council that cannot reach its quorum could not lower it either.
            if (record.role == Names.COUNCIL && record.needed > seatedNow) {
                revert QuorumUnreachable(seatedNow, record.needed);
            }
            _quorum(record, _after(0, NOTICE));
        } else if (kind == Records.PARAMETER) {
            _parameter(abi.decode(members, (Records.Parameter)));
        } else if (kind == Records.CONTRACT) {
            _contract(abi.decode(members, (Records.Contract)));
        } else if (kind == Records.ASSET) {
            _asset(abi.decode(members, (Records.Asset)));
        } else if (kind == Records.ACCOUNT) {
            _account(abi.decode(members, (Records.Account)));
        } else if (kind == Records.REVENUE_RULE) {
            _revenueRule(abi.decode(members, (Records.RevenueRule)), recordHash);
        } else if (kind == Records.PROJECT) {
            _project(abi.decode(members, (Records.Project)), recordHash);
        } else {
            _allocation(abi.decode(members, (Records.Allocation)), recordHash);
        }
    }

    function _seat(Records.Seat memory record, uint64 from) private {
        address holder = record.holder;
        bytes32 held = roleOf[holder];
        if (!Names.isRole(record.role)) revert UnknownRole(record.role);
        if (holder == address(0)) revert HolderIsZero(record.role);
        if (held != 0 && held != record.role) revert OneHolderOneRole(holder, held, record.role);
        if (_payees[holder] != 0 || isContract[holder]) revert HolderIsPayeeOrContract(holder);
        if (record.validFrom >= record.validTo) revert TermEndsFirst(record.validFrom, record.validTo);
        if (held == 0) {
            roleOf[holder] = record.role;
            if (record.role == Names.COUNCIL) _councillors.push(holder);
        }
        // A new term takes the place of the old ones from its start on; so a term is also how a seat ends early.
        Term[] storage terms = _terms[holder];
        for (uint256 i = 0; i < terms.length; ++i) {
            if (terms[i].to > from) terms[i].to = from;
        }
        terms.push(Term(from, record.validTo));
    }

    /// @dev Those whose terms are over may call others in; they may not put out those who are still there (S7).
    function _checkEndsNoTerm(Records.Seat memory record) private view {
        Term[] storage terms = _terms[record.holder];
        for (uint256 i = 0; i < terms.length; ++i) {
            if (record.validTo < terms[i].to) revert RecoveryEndsTerm(terms[i].to, record.validTo);
        }
    }

    function _quorum(Records.Quorum memory record, uint64 from) private {
        uint256 least = record.role == Names.COUNCIL ? COUNCIL_FLOOR : 1;
        if (!Names.isRole(record.role)) revert UnknownRole(record.role);
        if (record.needed < least) revert QuorumTooSmall(record.role, least, record.needed);
        _quorums[record.role].push(Dated(from, record.needed));
    }

    function _parameter(Records.Parameter memory record) private {
        (uint128 least, uint128 most,) = Names.bounds(record.name);
        if (most == 0) revert UnknownParameter(record.name);
        if (record.value < least || record.value > most) revert OutOfBounds(record.name, least, most, record.value);
        _parameters[record.name].push(Dated(_after(record.validFrom, NOTICE), record.value));
    }

    function _contract(Records.Contract memory record) private {
        _checkName(record.name);
        if (record.chainId != block.chainid) revert WrongChain(block.chainid, record.chainId);
        if (record.at.codehash != record.codeHash) revert CodeDiffers(record.codeHash, record.at.codehash);
        // An address without code has this hash or zero.
        if (record.at.code.length == 0) revert CodeDiffers(record.codeHash, 0);
        if (roleOf[record.at] != 0 || _payees[record.at] != 0) revert ContractIsPayeeOrSeat(record.at);
        contractAt[record.name] = record.at;
        isContract[record.at] = true;
    }

    function _asset(Records.Asset memory record) private {
        _checkName(record.asset);
        if (record.chainId != block.chainid) revert WrongChain(block.chainid, record.chainId);
        if (record.validFrom >= record.validTo) revert TermEndsFirst(record.validFrom, record.validTo);
        if (record.token == address(0)) revert TokenMissing(record.asset);
        bytes32 taken = assetOf[record.token];
        if (taken != 0) revert TokenTaken(record.token, taken);
        assetOf[record.token] = record.asset;
        _assets[record.asset] = Asset(record.token, record.decimals, record.validFrom, record.validTo);
    }

    function _account(Records.Account memory record) private {
        _checkName(record.account);
        if (_assets[record.asset].validTo == 0) revert UnknownAsset(record.asset);
        bool paid = record.kind == Names.PAYEE || record.kind == Names.REPUBLIC;
        // Banks, revenue and projects are the ledger's alone; no contract would read them.
        if (!paid && record.kind != Names.CHAIN) revert KindNotOnChain(record.kind);
        if (!Names.isFund(record.fund)) revert UnknownFund(record.fund);
        if (uint256(record.owner) >> 160 != 0 || record.owner == 0) revert OwnerNotAnAddress(record.owner);
        address owner = address(uint160(uint256(record.owner)));
        if (paid) {
            if (roleOf[owner] != 0) revert OwnerHoldsSeat(owner, roleOf[owner]);
            if (isContract[owner]) revert OwnerIsContract(owner);
            // A payee may turn out to be the republic, but the republic does not turn into a payee.
            if (_payees[owner] == Names.REPUBLIC && record.kind == Names.PAYEE) revert OwnerIsRepublic(owner);
            if (record.party == 0) revert PartyMissing(record.account);
            _payees[owner] = record.kind;
        } else {
            address treasury = contractAt[Names.TREASURY];
            if (owner != treasury) revert NotTheTreasury(treasury, record.owner);
            if (record.fund != Names.RETAINED) revert FundNotRetained(record.fund);
        }
        _accounts[record.account] =
            Account(record.asset, record.fund, record.kind, record.owner, uint64(block.timestamp));
    }

    function _revenueRule(Records.RevenueRule memory record, bytes32 recordHash) private {
        _checkName(record.code);
        // What is in custody is others' money and never revenue (G5).
        if (!Names.isFund(record.fund) || record.fund == Names.CUSTODY) revert UnknownFund(record.fund);
        if (record.minShare > WHOLE) revert ShareTooLarge(WHOLE, record.minShare);
        Share[] storage shares = _shares[record.code];
        // A first rule takes nothing from anybody. A later one has notice, so that the router may keep what it knows.
        uint256 notice = shares.length == 0 ? 0 : NOTICE;
        shares.push(Share(_after(record.validFrom, notice), record.minShare, record.fund));
        codeOf[recordHash] = record.code;
    }

    function _project(Records.Project memory record, bytes32 recordHash) private {
        _checkName(record.project);
        _checkName(record.sector);
        if (!Names.isPlace(record.place)) revert PlaceNotInAlatau(record.place);
        if (record.limit != 0 && !Names.isSector(record.sector)) revert UnknownSector(record.sector);
        _sectors[recordHash] = record.sector;
    }

    function _allocation(Records.Allocation memory record, bytes32 recordHash) private {
        _checkName(record.allocation);
        _checkName(record.block);
        bytes32 sector = _sectors[record.projectHash];
        if (sector == 0) revert UnknownProject(record.projectHash);
        // All money on a chain is RETAINED, which pays for infrastructure only.
        if (!Names.isInfrastructure(sector)) revert SectorNotInfrastructure(sector);
        if (_assets[record.asset].validTo == 0) revert UnknownAsset(record.asset);
        if (record.amount == 0) revert AmountIsZero(record.allocation);
        _allocations[recordHash] = Allocation(record.projectHash, record.asset, record.amount);
    }

    function _councillorsNow() private view returns (uint256 count) {
        for (uint256 i = 0; i < _councillors.length; ++i) {
            if (seated(Names.COUNCIL, _councillors[i])) ++count;
        }
    }

    function _checkName(bytes32 word) private pure {
        if (!Names.isName(word)) revert NotAName(word);
    }

    function _after(uint64 validFrom, uint256 notice) private view returns (uint64) {
        uint64 earliest = uint64(block.timestamp + notice);
        return validFrom > earliest ? validFrom : earliest;
    }

    /// @dev Of this second and the end of the notice from now on, the sooner.
    function _sooner(uint64 time) private view returns (uint64) {
        uint64 noticed = uint64(block.timestamp + NOTICE);
        return time < noticed ? time : noticed;
    }

    function _inForce(Dated[] storage dated, uint128 unset) private view returns (uint128) {
        for (uint256 i = dated.length; i > 0; --i) {
            Dated memory last = dated[i - 1];
            if (last.from <= block.timestamp) return last.value;
        }
        return unset;
    }
}
